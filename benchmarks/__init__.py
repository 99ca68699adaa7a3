"""Speed, measured side by side with what people would use instead: `make bench`.

README.md says what is measured and how fair it is; results.md has the figures.

bench          the command line: which scenarios, how many rounds, what is written
scenarios      what is measured, one function a scenario
contestants    one run of ours or of a peer: rows, seconds, processor seconds
watching       what a run's processes take: processor time, memory
results        medians, ratios, bars; results.json, results.md
picture        results.svg
finder         `onboard find` among a million rows, and what its index costs; a command of its own
files          intake and reports of a million rows; a command of its own
console        the console's pages on a million rows; a command of its own
peers          what people would write instead
"""

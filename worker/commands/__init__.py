"""What each command parses and shows; what it does stands in `tasks.operations`.

===============  =====================================================================
run              `onboard run`: from a file to its reports
retry            `onboard retry`: what may pass now is tried again
check            `onboard check`: everything but the sending
status           `onboard status`, `report`: what the ledger knows
batch_decisions  `onboard pause`, `resume`, `approve`, `cancel`
rows             `onboard resolve`, `show`
bulk_resolve     `onboard resolve --csv`, `--from`
open_work        `onboard open`, `dismiss`, `find`
follow_up        `onboard follow-up`, `report follow-up`
audit            `onboard audit`
ledger           `onboard ledger create`, `upgrade`, `accept`, `tidy`
doctor           `onboard doctor`: is everything there that a run needs?
rehearse         `onboard rehearse`: a whole run against the simulator
demo             `onboard demo`: the same with the sample file
sending          what every command does that sends: waits for batches, shows the result
batch_result     what is shown of a batch, and its JSON
===============  =====================================================================
"""

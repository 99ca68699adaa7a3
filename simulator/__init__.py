"""elepay on localhost with its faults: for the demo, the tests, the benchmarks and rehearsals.

=============  =========================================================================
catalogue      what elepay knows: payment methods, resources, statuses, error codes
profile        every knob of the simulator, and the profiles that set them (TOML files)
validation     what elepay demands of a createSource body; pure
faults         which fault strikes which attempt, drawn from the seed
ceiling        the real throttle: at most so many requests in any second
state          the sources that exist, small enough for a million
tally          what arrived and what was answered, for judging a run
answers        the bytes of an answer: sources, lists, errors
pages          pages of whatever stands in between: any HTTP status, no errorCode
wrong_answers  answers that mislead: other people's sources and errors, odd contents
authority      which key opens which door
routing        which operation a request asks for
account        what the operations share: knobs, sources, counts, errors
look_ups       the operations that create nothing
operations     elepay's operations: a request in, an answer out; no network
wire           how answers get onto a connection, and bytes that do not belong there
strikes        how a fault looks to the one who called
api            the ASGI application: reads requests, strikes, answers
control        `/_sim/...`: knobs, statistics, offline windows
server         the process: uvicorn
=============  =========================================================================

It follows docs/reference/elepay-api.md §9 and knows nothing of the program that it tests.
"""

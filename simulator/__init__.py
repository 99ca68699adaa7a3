"""elepay on localhost with its faults: for the demo, the tests, the benchmarks and rehearsals.

===========  =========================================================================
catalogue    what elepay knows: payment methods, resources, statuses, error codes
profile      every knob of the simulator, and the profiles that set them (TOML files)
validation   what elepay demands of a createSource body; pure
faults       which fault strikes which attempt, drawn from the seed
ceiling      the real throttle: at most so many requests in any second
state        the sources that exist, small enough for a million
tally        what arrived and what was answered, for judging a run
answers      the bytes of an answer: sources, lists, errors, pages of a proxy
authority    which key opens which door
operations   elepay's operations: a request in, an answer out; no network
api          the ASGI application: reads requests, strikes, answers
control      `/_sim/...`: knobs, statistics, offline windows
server       the process: uvicorn
===========  =========================================================================

It follows docs/elepay-api.md §9 and knows nothing of the program that it tests.
"""

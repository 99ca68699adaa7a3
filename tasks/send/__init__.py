"""Sending rows: when, how many, what an answer means, and what a process does when nothing definite comes back.

===============  ===================================================================
send_loop        the sending loop of one process: take, pace, record, start
slice_claims     slices from their claim to their end
slice_queue      the rows of this process: queued, in flight, completed
pacing           when the rows of a commit may leave
recording        one commit: mark rows, write outcomes, renew the lease
request_starter  starts the requests of marked rows, each at its place
worker_lease     this process's number in the ledger, and its lease
row_sender       one request of a row, and the decision about its answer
source_lookup    what elepay has of an unclear row
lookup_result    what a look-up says: plain values
outcomes         what an answer means for a row: pure
retry_policy     the tenacity policy: what is tried again, how long, how often
rate_limit       one allowance for the whole fleet (Redis, `rate_limit.lua`)
batch_guards     what the decision about a row means for its batch
circuit_breaker  what a process still sends when nothing definite comes back
sampling         some rows of a new batch are looked up before its first is sent
===============  ===================================================================
"""

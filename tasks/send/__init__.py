"""Sending rows: when, how many, what an answer means, and what a process does when nothing definite comes back.

===============  ===================================================================
send_loop        the sending loop of one process: mark, pace, send, record
sampling         some rows of a new batch are looked up before its first is sent
row_sender       one request of a row, and the decision about what came back
outcomes         what an answer means for a row: pure
source_lookup    what elepay has of an unclear row
retry_policy     the tenacity policy: what is tried again, how long, how often
rate_limit       one allowance for the whole fleet (Redis, `rate_limit.lua`)
batch_guards     what one row's decision means for its batch
circuit_breaker  what a process still sends when nothing definite comes back
===============  ===================================================================
"""

"""What is done with files, batches and sources, one use case a module; no terminal, no web, no exit codes.

===============  ==========================================================================
accept_batch     a file becomes a batch of the ledger: read, checked, kept, never taken twice
batch_lifecycle  a batch is dispatched, sent, reaped, paused, resumed, cancelled, closed
retry_file       the rows of a batch that `onboard retry` sends again, as a file
follow_up        what became of created sources
audit            the ledger compared with elepay
retention        what is dropped of batches that ended long ago
===============  ==========================================================================
"""

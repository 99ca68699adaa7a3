"""What is done with batches and sources, one use case a module; no terminal, no web, no exit codes.

=========  =================================================
follow_up  what became of created sources
audit      the ledger compared with elepay
retention  what is dropped of batches that ended long ago
=========  =================================================
"""

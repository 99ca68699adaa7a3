"""The work, in the order a row meets it.

The words that all of it uses:

================  ====================================================================
error_texts       the sentences with which the program ends, English and Japanese
errors            one class per thing we can do about it
models            the nouns: Batch, Row, RowState, SourceRequest, Outcome, Reason
spelling          spellings of one text, made equal
identities        what one row is about, and the reference that its source carries
settings          the settings of this process, checked as a whole
setting_fields    every setting: type, default, one sentence
setting_problems  what is said about settings that are malformed
setting_sources   where settings are looked for, and which names are none
redis_url         REDIS_URL: what redis-py and Celery both understand
ledger_url        LEDGER_URL: SQLite or PostgreSQL, in the spellings that people know
send_window       when sending is allowed: a nightly window, or always
reason_texts      every reason code of ours: sentence and hint, English and Japanese
stop_texts        why a batch does not go on: a sentence a code, English and Japanese
process_identity  who this process is, and whether another one surely is dead
gc_tuning         Python's cycle collector, at rest while modules load and many rows are held
memory_limits     what a process may take of memory, and what is said when it gets none
metrics_registry  what this process has asked and what came of it, for metrics
================  ====================================================================

A file comes in, is remembered, sent, reported and looked after:

==============  ======================================================================
csv_records     a CSV file as its records: bytes, lines, fields; nothing about customers
accept          a dropped file -> rows, and the rows that cannot be sent
files           where accepted files and reports lie: one protocol, the local folder behind it
ledger          the memory: add, claim, mark, record, release, reap, count
elepay          the vendor: client, transport, answers, error codes, catalogue
send            the sending loop and all that decides about a row
services        builds ledger, API client, limiter and send loop once per process
operations      the use cases, a verb a module; no terminal, no web, no Celery
reports         the same facts as CSV, JSON, HTML, XLSX: one writer a file
celery_tasks    the same as Celery tasks: a few lines each
==============  ======================================================================

Who may import whom stands in `pyproject.toml` and is a test; docs/engineering/architecture.md draws it.
"""

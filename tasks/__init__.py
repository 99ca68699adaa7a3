"""The work, in the order a row meets it.

=================  ====================================================================
errors             one class per thing we can do about it
models             the nouns: Batch, Row, RowState, SourceRequest, Outcome, Reason
settings           every knob: type, default, one sentence
elepay_codes       elepay's error codes and the one thing we do about each (data)
catalogue          elepay's payment methods and resources, and what each demands (data)
reasons            every reason code of ours: sentence and hint, English and Japanese
csv_records        a CSV file as its records: bytes, lines, fields; nothing about customers
retrying           the tenacity policy: what is tried again, how long, how often
rate_limit         one allowance for the whole fleet (Redis)
schema             the ledger's tables and constraints
ledger             the memory: add, claim, advance, release, sweep, count, page
intake             a dropped file -> rows, and the rows that cannot be sent
elepay_api         the only file that speaks HTTP
reconciliation     do file, ledger and elepay agree? pure, no I/O
reports            the same facts as CSV, JSON, HTML, XLSX: one writer a file
waves              the sending loop of one process: mark, pace, send, record, wave by wave
onboarding         the heart: accept_file, onboard_slice, sweep, close_batch; no Celery
resources          builds ledger, API client, limiter and wave loop once per process
celery_tasks       the same as Celery tasks: a few lines each
=================  ====================================================================

Each may import what stands above it in the list of `pyproject.toml`, never below; the import contracts are a test.
"""

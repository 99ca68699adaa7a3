"""The work, in the order a row meets it.

The words that all of it uses:

=================  ====================================================================
errors             one class per thing we can do about it
models             the nouns: Batch, Row, RowState, SourceRequest, Outcome, Reason
settings           every knob: type, default, one sentence
window             when sending is allowed: a nightly window, or always
reasons            every reason code of ours: sentence and hint, English and Japanese
=================  ====================================================================

A file comes in and is remembered:

=================  ====================================================================
onboarding         the heart: accept_file, ring, onboard_slice, sweep, resume; no Celery
csv_records        a CSV file as its records: bytes, lines, fields; nothing about customers
catalogue          elepay's payment methods and resources, and what each demands (data)
accept             a dropped file -> rows, and the rows that cannot be sent
collector          Python's cycle collector, at rest while modules load and many rows are held
memory_limits      what a process may take of memory, and what is said when it gets none
schema             the ledger's tables and constraints
migrations         the ledger's versions
ledger             the memory: add, claim, mark, record, release, sweep, count
=================  ====================================================================

Its rows are sent:

=================  ====================================================================
celery_tasks       `onboarding` as Celery tasks: a few lines each
resources          builds ledger, API client, limiter and wave loop once per process
processes          who this process is, and whether another one surely is dead
sampling           some rows of a new batch are looked up before its first is sent
waves              the sending loop of one process: mark, pace, send, record, wave by wave
rate_limit         one allowance for the whole fleet (Redis)
redis_url          REDIS_URL: what redis-py and Celery both understand
sending            one request of a row, and the decision about what came back
elepay_api         what elepay is asked: requests, URLs, headers
flights            requests under way: one thread writes and reads them all
elepay_answers     what an answer of elepay says, and whether it is believed
elepay_codes       elepay's error codes and the one thing we do about each (data)
outcomes           what an answer means for a row: pure
retrying           the tenacity policy: what is tried again, how long, how often
settling           what elepay has of an unclear row
consequences       what one row's decision means for its batch
circuit_breaker    what a process still dares to send when nothing definite comes back
counters           what this process has asked and what came of it, for metrics
=================  ====================================================================

And looked after:

=================  ====================================================================
following          what became of created sources
auditing           ledger and elepay held against each other
tidying            what is dropped of batches that ended long ago
=================  ====================================================================

And told:

=================  ====================================================================
reporting          gathers what the ledger knows of a batch
reports            the same facts as CSV, JSON, HTML, XLSX: one writer a file
=================  ====================================================================

Who may import whom stands in `pyproject.toml` and is a test; docs/architecture.md draws it.
"""

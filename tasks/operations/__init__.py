"""The use cases, one a verb: plain values and `Services` in, a frozen dataclass out, an `OnboardingError` raised.

No terminal, no web, no Celery, no exit code, and no settings but those of `Services`. Whoever opens a door for people
or scripts (a command, the watcher, a page) parses, calls one of these, and shows what it returns. What a person decides
takes `who`, for the ledger's history.

===================  ==========================================================================
accept_batch         a file becomes a batch of the ledger: read, checked, kept, never taken twice
check                what would become of a file
pause                nothing more of a batch is sent until it is resumed
resume               a stopped batch goes on
approve              the rest of a batch is sent after its canary rows
cancel               a batch is given up
retry                what may pass now is tried again
resolve              an unclear row is settled by a person's word, after elepay was asked
open_work            what needs a person over all batches, each row once; set aside
find                 a customer, a source or a reference over all batches
evidence             what elepay has of an unclear row now
browse               batches and rows, page by page
record_cells         the cells of some records of a file
review_batch         what somebody has to see of a batch before they decide
batch_pace           how fast a batch was sent and answered
uploads              a file that somebody uploads: kept, checked, accepted
upload_check         an uploaded file checked in a process of its own
bulk_resolve         many unclear rows settled by a file of decisions
show_row             one row and its history
status               the newest batches, one batch, the fleet's rate
report               the reports of a batch
follow_up            what became of created sources
follow_up_report     the list of sources that are pending for long or have ended
audit                the ledger compared with elepay
retention            what is dropped of batches that ended long ago
ledger_setup         the ledger created, upgraded, accepted as it is
installation_checks  whether there is what a run needs
sign_in              somebody signs in to the console, and out
console_users        who may sign in to the console with a password
access_history       who saw personal data, took files away, or wanted what they may not
batch_lifecycle      a batch dispatched, sent, reaped, closed, and the changes of its state
foreseen_rows        what would become of the rows of a file that is only checked
file_policies        when a file is refused because of its invalid records
sendable_methods     which payment methods this key can register a source for
find_record          the record on a line that a person has typed
person_requests      what elepay is asked for a person counts against the rate limit
audit_comparison     one customer's rows compared with what elepay lists: pure
batch_status         a batch and its rows counted by state
four_eyes            what needs a second person
===================  ==========================================================================
"""

"""Where dropped files arrive, and every move that a file makes: no ledger here.

=============  ====================================================================
protocol       what a watcher asks of an inbox, wherever its files lie
local_folder   the drop folder: a folder of this machine, or a share that is mounted
claims         files that watchers have taken, in `processing/`: one rename each
heartbeats     which watchers of a drop folder are alive
settling       which files of `inbox/` are complete
outbox         copies of reports for the people who dropped the file
dated_folder   `archive/` and `rejected/`: closed claims by day
late_uploads   uploads that continued after their file was taken
names          which names are unfinished uploads, junk or companions; safe names
file_events    file events of the operating system
=============  ====================================================================
"""

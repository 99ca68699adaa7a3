"""`onboard watch`: claims dropped files when they are complete, and brings each of them to its end, night after night.

The inbox is only the trigger; what became of a file is in the ledger. Each step of a claim can be repeated, so a
watcher that is killed at any point continues where it stopped, and so does another one that takes its claims over:

1. claimed: the inbox knows whose claim it is, so it can be taken over once its watcher is dead
2. read: before the file is accepted, claim.json says which batches had this content already, so that a batch that is
   made afterwards is known to be its own; the ledger has one unfinished batch of one content
3. running: workers send the batch's rows
4. closed: the reports are written and published, and the claim moves to the archive, in this order, each all or nothing
5. compared with what was read, then and for an hour after: a file whose upload continued returns to the inbox

==================  ====================================================================
command             starts a watcher for `onboard watch`
watcher             the loop: what is due is done, then it sleeps until something happens
scanner             claims the files of the inbox that are complete
pipeline            advances each claim one step at a time: read, running, closed
reading             finds out what a claimed file is: a new batch, a known content, unusable
closing             publishes reports and notices, and moves a claim to where it ends
night_reports       the reports so far of a batch that the nightly window left unfinished
late_upload_check   returns files to the inbox whose upload continued after they were read
expected_file       warns when no file arrived in time
upkeep              keeps Redis, the workers and the ledger going
claim_in_progress   a claim and how far it is
summary             counts and exit code of a watcher
failure_log         logs once that something fails, and once that it works again
background          a step that runs in a thread of its own
==================  ====================================================================
"""

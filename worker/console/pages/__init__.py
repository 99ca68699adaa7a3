"""What people see, and what they may do there: a module a page.

============  ====================================================================
tonight       what runs, waits and is stopped now
batches       every batch, newest first
batch         one batch, and what may be done with it
rows          rows of a batch, one row, its history
decide        unclear rows beside what elepay has of them now
find          a customer, a source or a reference over all batches
open_work     what needs a person over all batches; set aside
upload        a file, from its check to its batch
me            who somebody is to the console
static        style sheets and scripts
batch_lines   what lists of batches show of each
row_words     what pages say about a row
============  ====================================================================
"""

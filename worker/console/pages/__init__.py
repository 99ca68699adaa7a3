"""What people see, and what they may do there: a module a page.

==========  ====================================================================
tonight     what runs, waits and is stopped now
static      style sheets and scripts
==========  ====================================================================
"""

"""Who somebody is, and what a request must be to reach a page.

==========  ====================================================================
strangers   everybody is the same person, who may only look
==========  ====================================================================
"""

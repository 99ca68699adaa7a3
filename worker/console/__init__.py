"""`onboard console`: the review pages, for people who decide in a browser.

=============  ====================================================================
command        serves the pages until it is stopped
app            the application: routes of the pages, middleware of the safety
pages          what people see, and what they may do there
safety         who somebody is, and what a request must be to reach a page
looks          who sees personal data, written down
page_texts     a page in the language of whoever asked for it
kept_answers   answers that take a while, kept for a moment
long_deeds     what takes longer than people wait, done in a thread
uploaded_file  the file of a form, as it arrives
people         who somebody is, and what they may do
=============  ====================================================================
"""

"""The same facts as CSV, JSON, HTML and XLSX: one writer a file.

::

    write_reports    all reports of a batch into a store: complete, or without a manifest
    write_notice     what became of a dropped file that has no reports

===============  =======================================================================
report_data      what the reports are made from
report_rows      file and ledger, record by record
work_kinds       what kind of work a row is
masking          what stands for a customer where screens are shared
history_texts    what happened to a row, in words
row_texts        what is said about one row
aggregates       rows counted while they stream by; checks the reconciliation
recommendations  the verdict, and what to do
check_headline   the same of a file that was only checked
csv_reports      `results.csv`, `failures.csv` and their excel-safe copies
summary_json     `summary.json`
lists            `follow-up.csv`, `audit.csv`: no reports of one file
notice           a few lines about a file that was rejected, or onboarded before
===============  =======================================================================

The file and the rows are read once, side by side, and every writer takes its share; memory does not grow with them.
"""

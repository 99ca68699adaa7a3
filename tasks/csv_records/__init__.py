"""A CSV file as its records: bytes, lines, fields; nothing about customers.

Nothing is guessed: encodings are tried strictly in the given order, the delimiter is the one that splits the header
most often, and structure is what Python's `csv` module says in strict mode. A line ends with CRLF, LF or CR.

=============  ====================================================
records        FileFormat, Record, RawRecord, RecordBatch
reading        records with their raw text, or as their exact bytes
lookup         single records of a large file, by their lines
sniffing       how a file is written
empty_end      empty records at the end, which are none
writing        fields as text and bytes in the dialect of a file
repair_marker  the mark of a record that a report had to straighten
=============  ====================================================
"""

from tasks.csv_records.lookup import records_at
from tasks.csv_records.reading import read_batches, read_raw, read_records
from tasks.csv_records.records import (
    BLANKS,
    DELIMITERS,
    MAX_COLUMNS,
    MAX_RECORD_CHARS,
    FileFormat,
    RawRecord,
    Record,
    RecordBatch,
)
from tasks.csv_records.repair_marker import MARK_COLUMN, mark, still_broken
from tasks.csv_records.sniffing import detect_format, read_first_lines
from tasks.csv_records.writing import encode_fields, fit, format_fields, guard, unguard

__all__ = [
    "BLANKS",
    "DELIMITERS",
    "MARK_COLUMN",
    "MAX_COLUMNS",
    "MAX_RECORD_CHARS",
    "FileFormat",
    "RawRecord",
    "Record",
    "RecordBatch",
    "detect_format",
    "encode_fields",
    "fit",
    "format_fields",
    "guard",
    "mark",
    "read_batches",
    "read_first_lines",
    "read_raw",
    "read_records",
    "records_at",
    "still_broken",
    "unguard",
]

"""The records of a file, a block of bytes at a time.

::

    bytes ──blocks──> text ──split_lines──> records (number, line, fields, text) ──> read_batches, read_records
                                              └─ the same over Latin-1 ──────> read_raw (exact bytes, for reports)
"""

from __future__ import annotations

import codecs
import csv
import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.csv_records.records import MAX_RECORD_CHARS, FileFormat, RawRecord, Record, RecordBatch
from tasks.errors import UnusableFile

#: How much of a file is held at once.
BLOCK_BYTES = 2 * 1024 * 1024
_BATCH_CHARS = 4 * 1024 * 1024
END_OF_FILE_MARK = "\x1a"  # DOS and some mainframe exports end with it


def read_records(path: Path, fmt: FileFormat) -> Iterator[Record]:
    """Yield the records after the header, in order; blank lines are none, nor are empty records at the end of the file.

    Memory stays flat. Raises `UnusableFile` for an unclosed quote, a record beyond `MAX_RECORD_CHARS`, and bytes that
    are not the format's (the file has changed since).
    """
    for batch in read_batches(path, fmt):
        errors = batch.errors
        for at, (line, fields, text) in enumerate(zip(batch.lines, batch.fields, batch.texts, strict=True)):
            yield Record(batch.first_record + at, line, fields, text.rstrip("\r\n"), errors.get(at, ""))


def read_raw(path: Path, fmt: FileFormat) -> Iterator[RawRecord]:
    """Yield the same records as `read_records`, as their exact bytes.

    Decoding and encoding again is not exact in cp932, where some characters have two codes; and it is slower.
    """
    bytewise = fmt.bytewise
    encoding = bytewise.plain_encoding
    for batch in read_batches(path, bytewise):
        for at, (line, fields, text) in enumerate(zip(batch.lines, batch.fields, batch.texts, strict=True)):
            yield RawRecord(batch.first_record + at, line, text.rstrip("\r\n").encode(encoding), len(fields))


def read_batches(
    path: Path, fmt: FileFormat, size: int = 10_000, on_bytes: Callable[[bytes], None] | None = None
) -> Iterator[RecordBatch]:
    """Yield the records as `read_records`, `size` at a time; fewer if they are very long, or the last ones.

    `on_bytes` is given every byte of the file in order, for a checksum.
    """
    waiting = RecordBatch(first_record=1)
    for batch in _all_records(path, fmt, on_bytes):
        skipped = bisect_right(batch.lines, fmt.header_line)  # the header, and whatever stands above it
        end = bisect_left(batch.lines, fmt.empty_from) if fmt.empty_from else len(batch)
        waiting.extend(batch.part(skipped, end) if skipped or end < len(batch) else batch)
        whole = len(waiting) - len(waiting) % size
        for begin in range(0, whole, size):
            yield waiting.part(begin, begin + size)
        if whole:
            waiting = waiting.part(whole, len(waiting))
        if sum(map(len, waiting.texts)) > _BATCH_CHARS:
            yield waiting
            waiting = RecordBatch(waiting.first_record + len(waiting))
    if len(waiting):
        yield waiting


def _all_records(path: Path, fmt: FileFormat, on_bytes: Callable[[bytes], None] | None) -> Iterator[RecordBatch]:
    """Yield every record that is not blank, the header too, a block of the file at a time."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_CHARS))
    carry, line = "", 1
    for block in blocks(path, fmt, on_bytes):
        text = carry + block
        end = end_of_last_line(text)
        if end == 0:
            carry = text
            if len(carry) > MAX_RECORD_CHARS:
                raise too_long(line)
            continue
        split = split_lines(text[:end], line, fmt.delimiter, final=False)
        yield split.batch
        line = split.next_line
        carry = split.rest + text[end:]
        if len(split.rest) > MAX_RECORD_CHARS:
            raise _unclosed(line, f"is not closed within {MAX_RECORD_CHARS:,} characters")
    if carry:
        yield split_lines(carry.removesuffix(END_OF_FILE_MARK), line, fmt.delimiter, final=True).batch


def blocks(path: Path, fmt: FileFormat, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[str]:
    """Yield the text of the file, without its BOM, in pieces."""
    decoder = codecs.getincrementaldecoder(fmt.plain_encoding)("strict")
    take = on_bytes or (lambda _block: None)
    try:
        with path.open("rb") as file:
            take(file.read(len(fmt.bom)))
            while block := file.read(BLOCK_BYTES):
                take(block)
                yield decoder.decode(block)
        yield decoder.decode(b"", final=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(
            "changed_while_reading",
            "The file changed while it was being read.",
            hint="Wait until its export has ended, then run or drop it again.",
        ) from error


def end_of_last_line(text: str) -> int:
    """Return where the last complete line of `text` ends; a CR at the very end may be half of a CRLF."""
    return max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1


class _Split(NamedTuple):
    batch: RecordBatch
    rest: str  #: text of a record that goes on in the next block
    next_line: int  #: physical line on which `rest`, or else the next record, starts


def split_lines(text: str | list[str], line: int, delimiter: str, *, final: bool, stop_after: int = 0) -> _Split:
    """Split complete lines into records; `line` is the number of the first one.

    Most blocks have one record a line, which one call of `csv` settles; the others go line by line.
    """
    if isinstance(text, str):
        lines = lines_of(text)
        _refuse_long_lines(lines, line)
        try:
            rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
        except csv.Error:
            rows = []
        if len(rows) == len(lines):
            batch = RecordBatch(0, list(range(line, line + len(lines))), rows, lines)
            return _Split(_without_blanks(batch), "", line + len(lines))
        lines = io.StringIO(text, newline="").readlines()
    else:
        lines = text
    return _split_line_by_line(lines, line, delimiter, final=final, stop_after=stop_after)


def lines_of(text: str) -> list[str]:
    r"""Split text behind each line end; in the two usual cases a bare `\n` or `\r` is left off the lines."""
    returns = text.count("\r")
    if returns == 0 or returns == text.count("\r\n"):
        lines = text.split("\n")
    elif "\n" not in text:
        lines = text.split("\r")
    else:
        return io.StringIO(text, newline="").readlines()
    if not lines[-1]:
        lines.pop()
    return lines


def _refuse_long_lines(lines: list[str], line: int) -> None:
    if max(map(len, lines), default=0) > MAX_RECORD_CHARS:
        raise too_long(line + next(at for at, each in enumerate(lines) if len(each) > MAX_RECORD_CHARS))


def _split_line_by_line(lines: list[str], line: int, delimiter: str, *, final: bool, stop_after: int) -> _Split:
    batch = RecordBatch(0)
    taken = 0
    at_end = False

    def feed() -> Iterator[str]:
        nonlocal taken, at_end
        for each in lines:
            taken += 1
            yield each
        at_end = True

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    begin = 0
    while not (stop_after and len(batch) >= stop_after):
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if at_end and not final:
                return _Split(_without_blanks(batch), "".join(lines[begin:]), line + begin)
            if at_end:
                raise _unclosed(line + begin, "is never closed") from error
            lenient = list(csv.reader([lines[begin], "x"], delimiter=delimiter))
            if taken - begin > 1 or len(lenient) == 1:  # a lenient reader looks for the end in the next line
                raise _unclosed(
                    line + begin, f"is not closed where the field ends (line {line + taken - 1})"
                ) from error
            batch.errors[len(batch)] = "malformed_quotes"
            fields = lenient[0]
        batch.lines.append(line + begin)
        batch.fields.append(fields)
        batch.texts.append("".join(lines[begin:taken]))
        begin = taken
    return _Split(_without_blanks(batch), "", line + begin)


def is_blank(text: str) -> bool:
    """Return True for a line that is no record."""
    return not text.strip(" \t\r\n")


def _without_blanks(batch: RecordBatch) -> RecordBatch:
    """Return `batch` without the lines that hold nothing but blanks."""
    if min(map(len, batch.fields), default=2) > 1:
        return batch
    kept = RecordBatch(batch.first_record)
    for at, text in enumerate(batch.texts):
        if len(batch.fields[at]) > 1 or not is_blank(text):
            if at in batch.errors:
                kept.errors[len(kept)] = batch.errors[at]
            kept.lines.append(batch.lines[at])
            kept.texts.append(text)
            kept.fields.append(batch.fields[at])
    return kept


def too_long(line: int) -> UnusableFile:
    """Return the error about a line beyond `MAX_RECORD_CHARS`."""
    return UnusableFile(
        "line_too_long",
        f"Line {line} is longer than {MAX_RECORD_CHARS:,} characters.",
        line=line,
        hint="The line breaks of the file are probably lost; export it again.",
        detail=f"{MAX_RECORD_CHARS:,}",
    )


def _unclosed(line: int, how: str) -> UnusableFile:
    return UnusableFile(
        "unclosed_quote",
        f"A quote that opens in the record of line {line} {how}.",
        line=line,
        hint='Close it, or write a quote inside a quoted value twice (""), then run or drop the file again.',
        detail=how,
    )

"""A CSV file as its records: bytes, lines, fields; nothing about customers.

Nothing is guessed: encodings are tried strictly in the given order, the delimiter is the one that splits the header
most often, and structure is what Python's `csv` module says in strict mode. A line ends with CRLF, LF or CR.

::

    bytes ──_blocks──> text ──_split──> records (number, line, fields, text) ──> read_batches, read_records
                                                └─ the same over Latin-1 ──────> read_raw (exact bytes, for reports)
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tasks.errors import SettingsError, UnusableFile

#: Longest record, in characters; a longer one is an error instead of a memory problem.
MAX_RECORD_CHARS = 1_048_576
#: Most columns a header may have.
MAX_COLUMNS = 1_000
#: Delimiters that are recognised, the first wins when two split the header equally often. Others (such as `|`) can be
#: the second byte of a cp932 character, so that the exact bytes of a record could not be told from its text.
DELIMITERS = (",", ";", "\t")

_BLOCK_BYTES = 2 * 1024 * 1024
_BATCH_CHARS = 4 * 1024 * 1024
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_KINDS = {
    b"PK\x03\x04": "an Excel workbook or another zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF-": "a PDF",
    b"\x1f\x8b": "a gzip file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"SQLite format 3\x00": "a database",
}
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_JAPANESE = re.compile("[\u3000-\u9fff\uff00-\uffef]")
_BEYOND_DOUBT = 2
_END_OF_FILE_MARK = "\x1a"  # DOS and some mainframe exports end with it
_AS_CSV = "Save the file as CSV (comma delimited), in UTF-8 or Shift_JIS, and drop it again."


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How one file is written; kept in the ledger, so that reports are written the same way."""

    encoding: str  #: `utf-8`, `utf-8-sig` (with BOM), `cp932`, `utf-16-le`, …; as `open` wants it, see `encode`
    delimiter: str
    newline: str  #: the end of the header's line
    header: tuple[str, ...]  #: the titles as spelled
    header_line: int  #: physical line on which the header starts
    has_bom: bool = False
    has_sep_line: bool = False  #: the first line says `sep=;`
    header_text: str = ""  #: the header's raw text, without its line ending

    @property
    def plain_encoding(self) -> str:
        """The encoding of the text behind the BOM."""
        return "utf-8" if self.encoding == "utf-8-sig" else self.encoding

    @property
    def bom(self) -> bytes:
        """The bytes in front of the text."""
        if not self.has_bom:
            return b""
        return next((bom for bom, name in _UTF16.items() if name == self.encoding), codecs.BOM_UTF8)

    def encode(self, text: str) -> bytes:
        """Return the bytes of `text` in this file; a character that the encoding lacks becomes its escape."""
        return text.encode(self.plain_encoding, "backslashreplace")

    def to_dict(self) -> dict[str, Any]:
        """Return this format as JSON-able values."""
        return {**asdict(self), "header": list(self.header)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FileFormat:
        """Return the format that `to_dict` wrote."""
        return cls(**{**values, "header": tuple(values["header"])})


class Record(NamedTuple):
    """One record of a file."""

    record: int  #: 1 is the first after the header
    line: int  #: physical line on which it starts; 1 is the first
    fields: list[str]
    text: str  #: exactly as in the file, without its line ending
    error: str = ""  #: a reason code if its quotes are malformed; `fields` is then a lenient reading


class RawRecord(NamedTuple):
    """One record of a file as its bytes."""

    record: int
    line: int
    raw: bytes  #: exactly as in the file, without its line ending
    width: int  #: how many fields it has


@dataclass(slots=True)
class RecordBatch:
    """Consecutive records of a file, field by field in step."""

    first_record: int
    lines: list[int] = field(default_factory=list)
    fields: list[list[str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)  #: raw texts, line endings included
    errors: dict[int, str] = field(default_factory=dict)  #: position in this batch -> reason code

    def __len__(self) -> int:
        return len(self.fields)

    def extend(self, other: RecordBatch) -> None:
        """Append the records of `other`."""
        self.errors.update((len(self) + at, code) for at, code in other.errors.items())
        self.lines += other.lines
        self.fields += other.fields
        self.texts += other.texts

    def split(self, at: int) -> tuple[RecordBatch, RecordBatch]:
        """Return the first `at` records and the others."""
        first, rest = (
            RecordBatch(self.first_record + begin, self.lines[part], self.fields[part], self.texts[part])
            for begin, part in ((0, slice(0, at)), (at, slice(at, None)))
        )
        for position, code in self.errors.items():
            if position < at:
                first.errors[position] = code
            else:
                rest.errors[position - at] = code
        return first, rest


# Recognising a file ---------------------------------------------------------------------------------------------------


def detect_format(path: Path, encodings: Sequence[str] = ("utf-8-sig", "cp932")) -> FileFormat:
    """Return how the file is written, after reading all of it once.

    Raises `UnusableFile` if it is empty, binary, in none of the encodings, or has no readable header.
    """
    try:
        if path.exists() and not path.is_file():
            raise _unreadable("it is not a regular file")
        with path.open("rb") as file:
            start = file.read(65_536)
        if not start:
            raise UnusableFile("empty_file", "The file is empty (0 bytes).", hint="Export it again.")
        _refuse_known_kinds(start)
        encoding, bom = _find_encoding(path, start, encodings)
        return _read_header(path, FileFormat(encoding, ",", "\n", (), 1, has_bom=bool(bom)))
    except OSError as error:
        raise _unreadable((error.strerror or type(error).__name__).lower()) from error


def _unreadable(why: str) -> UnusableFile:
    return UnusableFile(
        "unreadable_file",
        f"The file cannot be opened: {why}.",
        hint="Check that it exists, is a file, and may be read.",
        detail=why,
    )


def _refuse_known_kinds(start: bytes) -> None:
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), "")
    if start.startswith(_UTF32):
        kind = "text in UTF-32"
    if kind:
        raise UnusableFile("binary_file", f"This is {kind}, not a CSV file.", hint=_AS_CSV, detail=kind)


def _find_encoding(path: Path, start: bytes, encodings: Sequence[str]) -> tuple[str, bytes]:
    """Return the first encoding in which the whole file can be decoded, and the BOM to skip."""
    for bom, name in _UTF16.items():
        if start.startswith(bom):
            encodings = (name,)
            break
    else:
        bom = codecs.BOM_UTF8 if start.startswith(codecs.BOM_UTF8) else b""
        if bom:
            encodings = [name for name in encodings if _is_utf8(name)] or ("utf-8-sig",)
    failures: list[tuple[int, str, bytes]] = []
    for name in encodings:
        plain = "utf-8" if _is_utf8(name) else codecs.lookup(name).name
        if plain == "utf-16":
            continue  # only by its byte order mark, above
        failure = _first_undecodable(path, plain, len(bom))
        if failure is None:
            return ("utf-8-sig" if plain == "utf-8" and bom else plain), bom
        if plain == "utf-8" and _is_japanese_up_to(path, len(bom), failure[0]):
            raise _damaged(path, *failure)
        failures.append((failure[0], name, failure[1]))
    raise _undecodable(path, start, failures)


def _is_utf8(name: str) -> bool:
    try:
        return codecs.lookup(name).name in ("utf-8", "utf-8-sig")
    except LookupError as error:
        raise SettingsError(f"Unknown encoding {name!r}; write for example utf-8-sig, cp932.") from error


def _first_undecodable(path: Path, encoding: str, skip: int) -> tuple[int, bytes] | None:
    """Return offset and bytes of what is not this encoding, or None if all of the file is."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset = skip
    with path.open("rb") as file:
        file.seek(skip)
        while True:
            block = file.read(_BLOCK_BYTES)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return offset - len(pending) + error.start, bytes(error.object[error.start : error.end])
            offset += len(block)
            if not block:
                return None


def _is_japanese_up_to(path: Path, begin: int, end: int) -> bool:
    """True if the bytes in front of the first wrong one are UTF-8 beyond doubt, so that cp932 would only garble them.

    Two characters of three bytes each are enough: in cp932 such a row of bytes needs rare characters side by side.
    """
    found = 0
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    with path.open("rb") as file:
        file.seek(begin)
        while found < _BEYOND_DOUBT and (block := file.read(min(_BLOCK_BYTES, end - file.tell()))):
            found += sum(1 for _ in islice(_JAPANESE.finditer(decoder.decode(block)), _BEYOND_DOUBT))
    return found >= _BEYOND_DOUBT


def _damaged(path: Path, offset: int, wrong: bytes) -> UnusableFile:
    line, value = _line_at(path, offset), " ".join(f"0x{byte:02X}" for byte in wrong)
    detail = f"UTF-8 up to line {line}, but not byte {value} at offset {offset}"
    return UnusableFile(
        "wrong_encoding",
        f"The file is damaged ({detail}).",
        line=line,
        hint="Two files in different encodings may have been joined, or the end was cut off. If the file is Shift_JIS all "
        "the same, set ONBOARD_ENCODINGS=cp932.",
        value=value,
        detail=detail,
    )


def _undecodable(path: Path, start: bytes, failures: Sequence[tuple[int, str, bytes]]) -> UnusableFile:
    if b"\x00" in start and not start.startswith(tuple(_UTF16)):
        return UnusableFile("binary_file", "This is binary data, not a CSV file.", hint=_AS_CSV, detail="binary data")
    found = [
        f"not {name}: byte {' '.join(f'0x{byte:02X}' for byte in wrong)} at offset {offset}, "
        f"line {_line_at(path, offset)}"
        for offset, name, wrong in failures
    ]
    detail = "; ".join(found)
    return UnusableFile(
        "wrong_encoding",
        f"The file is in none of the accepted encodings ({detail}).",
        line=_line_at(path, max(failures)[0]) if failures else None,
        hint="Save it as UTF-8 or Shift_JIS, or name its encoding in the settings; a single wrong byte often comes "
        "from two files that were joined.",
        value=" ".join(f"0x{byte:02X}" for byte in max(failures)[2]) if failures else "",
        detail=detail,
    )


def _line_at(path: Path, offset: int) -> int:
    """Return the physical line of the byte at `offset`."""
    lines = returns = 0
    with path.open("rb") as file:
        while offset > 0 and (block := file.read(min(offset, _BLOCK_BYTES))):
            lines += block.count(b"\n")
            returns += block.count(b"\r")
            offset -= len(block)
    return 1 + (lines or returns)


def _read_header(path: Path, fmt: FileFormat) -> FileFormat:
    """Return `fmt` with what the first lines say: `sep=` line, delimiter, titles, line ending."""
    text = _first_text(path, fmt)
    lines = io.StringIO(text, newline="").readlines()
    at = next((number for number, line in enumerate(lines) if not _is_blank(line)), None)
    if at is None:
        raise UnusableFile("empty_file", "The file holds nothing but blank lines.", hint="Export it again.")
    delimiters: tuple[str, ...] = DELIMITERS
    separator = _SEP_LINE.fullmatch(lines[at].rstrip("\r\n"))
    if separator:
        if separator[1] not in DELIMITERS:
            raise UnusableFile(
                "unknown_delimiter",
                f"Line {at + 1} says that {separator[1]!r} separates the columns; only comma, semicolon or tab may.",
                line=at + 1,
                hint="Export the file with one of them.",
                value=separator[1],
            )
        delimiters = (separator[1],)
        at += 1
        while at < len(lines) and _is_blank(lines[at]):
            at += 1
    if at >= len(lines):
        raise UnusableFile(
            "no_records", "The file has a `sep=` line and nothing else.", line=at, hint="Export it again."
        )
    return _header_of(lines[at:], at + 1, delimiters, replace(fmt, has_sep_line=bool(separator)))


def _first_text(path: Path, fmt: FileFormat) -> str:
    """Return the start of the file, enough for any acceptable header."""
    text = ""
    for block in _blocks(path, fmt):
        text += block
        if len(text) > 2 * MAX_RECORD_CHARS:
            break
    return text


def _header_of(lines: list[str], line: int, delimiters: Sequence[str], fmt: FileFormat) -> FileFormat:
    first = lines[0]
    if len(first) > MAX_RECORD_CHARS:
        most = max(map(first.count, delimiters))
        raise _too_many_columns(line, f"at least {most:,}") if most >= MAX_COLUMNS else _too_long(line)
    if "\x00" in first or _CONTROL.search(first):
        raise UnusableFile(
            "binary_file",
            f"Line {line}, where the titles should stand, holds control characters: this is not a CSV file in "
            f"{fmt.encoding}.",
            line=line,
            hint="If it is UTF-16 without a byte order mark, save it as UTF-8. " + _AS_CSV,
            detail="control characters in the header",
        )
    delimiter = max(delimiters, key=_outside_quotes(lines).count)
    batch = _split(lines, line, delimiter, final=True, stop_after=1).batch
    if len(batch.fields[0]) > MAX_COLUMNS:
        raise _too_many_columns(line, f"{len(batch.fields[0]):,}")
    text = batch.texts[0]
    body = text.rstrip("\r\n")
    return replace(
        fmt,
        delimiter=delimiter,
        newline=text[len(body) :] or "\n",
        header=tuple(batch.fields[0]),
        header_line=line,
        header_text=body,
    )


def _outside_quotes(lines: list[str]) -> str:
    """Return the first record without its quoted parts."""
    bare = re.sub(r'"[^"]*("|$)', "", "".join(lines))
    return re.split(r"[\r\n]", bare, maxsplit=1)[0]


# Reading records ------------------------------------------------------------------------------------------------------


def read_records(path: Path, fmt: FileFormat) -> Iterator[Record]:
    """Yield the records after the header, in order; blank lines are none.

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
    bytewise = _bytewise(fmt)
    encoding = bytewise.plain_encoding
    for batch in read_batches(path, bytewise):
        for at, (line, fields, text) in enumerate(zip(batch.lines, batch.fields, batch.texts, strict=True)):
            yield RawRecord(batch.first_record + at, line, text.rstrip("\r\n").encode(encoding), len(fields))


def _bytewise(fmt: FileFormat) -> FileFormat:
    """Return `fmt` with every byte as one character.

    In UTF-8 and cp932 no byte of a longer character can be mistaken for a delimiter, a quote or a line end; in UTF-16
    and in encodings with escape sequences it can, and there decoding is exact.
    """
    shifting = fmt.encoding.startswith(("utf-16", "utf-32", "utf-7", "utf_7", "iso2022", "hz"))
    return fmt if shifting else replace(fmt, encoding="latin-1")


def read_batches(
    path: Path, fmt: FileFormat, size: int = 10_000, on_bytes: Callable[[bytes], None] | None = None
) -> Iterator[RecordBatch]:
    """Yield the records as `read_records`, `size` at a time; fewer if they are very long, or the last ones.

    `on_bytes` is given every byte of the file in order, for a checksum.
    """
    waiting = RecordBatch(first_record=1)
    to_skip = 2 if fmt.has_sep_line else 1
    for batch in _all_records(path, fmt, on_bytes):
        records = batch
        if to_skip:
            skipped = min(to_skip, len(batch))
            to_skip -= skipped
            records = batch.split(skipped)[1]
        waiting.extend(records)
        while len(waiting) >= size:
            ready, waiting = waiting.split(size)
            yield ready
        if sum(map(len, waiting.texts)) > _BATCH_CHARS:
            yield waiting
            waiting = RecordBatch(waiting.first_record + len(waiting))
    if len(waiting):
        yield waiting


def _all_records(path: Path, fmt: FileFormat, on_bytes: Callable[[bytes], None] | None) -> Iterator[RecordBatch]:
    """Yield every record that is not blank, the header too, a block of the file at a time."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_CHARS))
    carry, line = "", 1
    for block in _blocks(path, fmt, on_bytes):
        text = carry + block
        end = _end_of_last_line(text)
        if end == 0:
            carry = text
            if len(carry) > MAX_RECORD_CHARS:
                raise _too_long(line)
            continue
        split = _split(text[:end], line, fmt.delimiter, final=False)
        yield split.batch
        line = split.next_line
        carry = split.rest + text[end:]
        if len(split.rest) > MAX_RECORD_CHARS:
            raise _unclosed(line, f"is not closed within {MAX_RECORD_CHARS:,} characters")
    if carry:
        yield _split(carry.removesuffix(_END_OF_FILE_MARK), line, fmt.delimiter, final=True).batch


def _blocks(path: Path, fmt: FileFormat, on_bytes: Callable[[bytes], None] | None = None) -> Iterator[str]:
    """Yield the text of the file, without its BOM, in pieces."""
    decoder = codecs.getincrementaldecoder(fmt.plain_encoding)("strict")
    take = on_bytes or (lambda _block: None)
    try:
        with path.open("rb") as file:
            take(file.read(len(fmt.bom)))
            while block := file.read(_BLOCK_BYTES):
                take(block)
                yield decoder.decode(block)
        yield decoder.decode(b"", final=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(
            "changed_while_reading",
            "The file changed while it was being read.",
            hint="Wait until its export has ended, then drop it again.",
        ) from error


def _end_of_last_line(text: str) -> int:
    """Return where the last complete line of `text` ends; a CR at the very end may be half of a CRLF."""
    return max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1


class _Split(NamedTuple):
    batch: RecordBatch
    rest: str  #: text of a record that goes on in the next block
    next_line: int  #: physical line on which `rest`, or else the next record, starts


def _split(text: str | list[str], line: int, delimiter: str, *, final: bool, stop_after: int = 0) -> _Split:
    """Split complete lines into records; `line` is the number of the first one.

    Most blocks have one record a line, which one call of `csv` settles; the others go line by line.
    """
    if isinstance(text, str):
        lines = _lines_of(text)
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


def _lines_of(text: str) -> list[str]:
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
        raise _too_long(line + next(at for at, each in enumerate(lines) if len(each) > MAX_RECORD_CHARS))


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
            if taken - begin > 1 or _leaves_quote_open(lines[begin], delimiter):
                raise _unclosed(
                    line + begin, f"is not closed where the field ends (line {line + taken - 1})"
                ) from error
            batch.errors[len(batch)] = "malformed_quotes"
            fields = next(csv.reader([lines[begin]], delimiter=delimiter))
        batch.lines.append(line + begin)
        batch.fields.append(fields)
        batch.texts.append("".join(lines[begin:taken]))
        begin = taken
    return _Split(_without_blanks(batch), "", line + begin)


def _leaves_quote_open(line: str, delimiter: str) -> bool:
    """True if a lenient reader would look for the end of this line's record in the next line."""
    return len(list(csv.reader([line, "x"], delimiter=delimiter))) == 1


def _is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n")


def _without_blanks(batch: RecordBatch) -> RecordBatch:
    """Return `batch` without the lines that hold nothing but blanks."""
    if min(map(len, batch.fields), default=2) > 1:
        return batch
    kept = RecordBatch(batch.first_record)
    for at, text in enumerate(batch.texts):
        if len(batch.fields[at]) > 1 or not _is_blank(text):
            if at in batch.errors:
                kept.errors[len(kept)] = batch.errors[at]
            kept.lines.append(batch.lines[at])
            kept.texts.append(text)
            kept.fields.append(batch.fields[at])
    return kept


def _too_many_columns(line: int, found: str) -> UnusableFile:
    return UnusableFile(
        "too_many_columns",
        f"The header in line {line} has {found} columns; {MAX_COLUMNS:,} are accepted.",
        line=line,
        hint="Export the columns that are needed; a file whose line breaks are lost looks like this too.",
        value=found,
        detail=f"{MAX_COLUMNS:,}",
    )


def _too_long(line: int) -> UnusableFile:
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
        hint='Close it, or write a quote inside a quoted value twice (""), and drop the file again.',
        detail=how,
    )


# Writing --------------------------------------------------------------------------------------------------------------


def format_fields(fields: Sequence[str], fmt: FileFormat) -> str:
    """Return fields as a record's text in the file's dialect, quoted only where that is needed.

    A character that the file's encoding lacks becomes its escape, so that the text can always be written.
    """
    return fmt.delimiter.join([_format_field(value, fmt) for value in fields])


def encode_fields(fields: Sequence[str], fmt: FileFormat) -> bytes:
    """Return fields as a record's bytes, without a line ending; see `format_fields`."""
    return fmt.encode(format_fields(fields, fmt))


def _format_field(value: str, fmt: FileFormat) -> str:
    if not value.isascii():
        value = fmt.encode(value).decode(fmt.plain_encoding)
    if fmt.delimiter in value or '"' in value or "\n" in value or "\r" in value:
        return '"' + value.replace('"', '""') + '"'
    return value


#: A spreadsheet takes a value that starts with one of these for a formula (or strips it).
_FORMULA_STARTS = tuple("=+-@＝＋－＠\t\r")


def guard(value: str) -> str:
    """Return a value that no spreadsheet takes for a formula; `unguard` returns it as it was."""
    return "'" + value if value.startswith((*_FORMULA_STARTS, "'")) else value


def unguard(value: str) -> str:
    """Return what `guard` was given; a lone apostrophe that somebody typed stays."""
    return value[1:] if value.startswith("'") and value[1:].startswith((*_FORMULA_STARTS, "'")) else value


def fit(raw: RawRecord, fmt: FileFormat, width: int) -> tuple[bytes, bytes]:
    """Return the first `width` fields of a record as they stand, filled up with empty ones, and what is left over.

    So that columns appended to a record with too few or too many fields stand under their titles.
    """
    if raw.width == width:
        return raw.raw, b""
    delimiter = fmt.encode(fmt.delimiter)
    if raw.width < width:
        return raw.raw + delimiter * (width - raw.width), b""
    encoding = _bytewise(fmt).plain_encoding
    parts = _raw_fields(raw.raw.decode(encoding), fmt.delimiter)
    first, rest = parts[:width], parts[width:]
    return fmt.delimiter.join(first).encode(encoding), fmt.delimiter.join(rest).encode(encoding)


def _raw_fields(text: str, delimiter: str) -> list[str]:
    """Split a record's text at its delimiters, quotes left on."""
    if '"' not in text:
        return text.split(delimiter)
    pattern = re.compile(rf'(?:"(?:[^"]|"")*"?)?[^{delimiter}]*')
    parts, at = [], 0
    while True:
        found = pattern.match(text, at)
        end = found.end() if found else at
        parts.append(text[at:end])
        if end >= len(text):
            return parts
        at = end + 1

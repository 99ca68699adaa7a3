"""How a file is written: encoding, byte order mark, `sep=` line, delimiter, titles. Nothing is guessed."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tasks.csv_records.empty_end import empty_end
from tasks.csv_records.reading import BLOCK_BYTES, blocks, is_blank, split_lines, too_long
from tasks.csv_records.records import DELIMITERS, MAX_COLUMNS, MAX_RECORD_CHARS, UTF16, FileFormat
from tasks.errors import SettingsError, UnusableFile

_ENCRYPTED = "encrypted (PGP or the like)"
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_KINDS = {
    b"PK\x03\x04": "a zip file",
    b"PK\x05\x06": "an empty zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF-": "a PDF",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"{\\rtf": "a text document (RTF)",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"SQLite format 3\x00": "a database",
    b"\x00\x01\x00\x00Standard": "an Access database",
    b"PAR1": "a Parquet file",
    b"-----BEGIN PGP": _ENCRYPTED,
    b"\x85\x01": _ENCRYPTED,
    b"\x85\x02": _ENCRYPTED,
    b"\x84\x01": _ENCRYPTED,
    b"\x8c\x0d\x04": _ENCRYPTED,
    b"age-encryption.org/": _ENCRYPTED,
    b"Salted__": _ENCRYPTED,
}
#: What lies in a zip file that is a document of a program, and which.
_IN_ZIP = {b"xl/": "an Excel workbook", b"[Content_Types].xml": "an Excel workbook", b"Index/": "a Numbers document"}
_JSON = re.compile(rb"\s*[\[{]\s*(?:[\[{]\s*)?(?:\"[^\"]*\"\s*:|[\]}])")
#: Also what a CRM answers whose session has ended, saved as if it were the export.
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|head|body|table|\?xml)\b", re.IGNORECASE)
_SEP_LINE = re.compile(r'(")?sep=(.)(?(1)")', re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_JAPANESE = re.compile("[\u3000-\u9fff\uff00-\uffef]")
#: What Python makes of 0x80, 0xA0 and 0xFD to 0xFF in cp932.
_NOT_OF_WINDOWS = "\x80\uf8f0\uf8f1\uf8f2\uf8f3"
_BEYOND_DOUBT = 2
_AS_CSV = "Save the file as CSV (comma delimited), in UTF-8 or Shift_JIS, then run or drop that file."
#: Of some kinds there is more to say than how to save them.
_HINTS = {
    _ENCRYPTED: "Decrypt it first; this program knows no key for it.",
    **dict.fromkeys(
        ("a zip file", "a gzip file", "a bzip2 file", "an xz file", "a 7-Zip file", "a zstd file"),
        "Unpack it first, then run or drop the CSV file that is in it.",
    ),
}


def detect_format(path: Path, encodings: Sequence[str] = ("utf-8-sig", "cp932")) -> FileFormat:
    """Return how the file is written, after reading all of it once.

    Raises `UnusableFile` if it is empty, binary, in none of the encodings, or has no readable header.
    """
    try:
        if path.is_dir():
            raise _unreadable("it is a folder", "Name one of the CSV files in it; `onboard watch` takes whole folders.")
        if path.exists() and not path.is_file():
            raise _unreadable("it is not a regular file")
        with path.open("rb") as file:
            start = file.read(65_536)
        if not start:
            raise UnusableFile("empty_file", "The file is empty (0 bytes).", hint="Export it again.")
        _refuse_known_kinds(start)
        encoding, bom = _find_encoding(path, start, encodings)
        fmt = _read_header(path, FileFormat(encoding, ",", "\n", (), 1, has_bom=bool(bom)))
        line, records = empty_end(path, fmt)
        return replace(fmt, empty_from=line, empty_records=records)
    except OSError as error:
        raise _unreadable((error.strerror or type(error).__name__).lower()) from error


def _unreadable(why: str, hint: str = "Check that it exists, is a file, and may be read.") -> UnusableFile:
    return UnusableFile(
        "unreadable_file",
        f"The file cannot be opened: {why}.",
        hint=hint,
        detail=why,
    )


def _refuse_known_kinds(start: bytes) -> None:
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), "")
    if _WEB_PAGE.match(start.removeprefix(codecs.BOM_UTF8)):
        kind = "a web page or XML"
    if kind == "a zip file":
        kind = next((document for name, document in _IN_ZIP.items() if name in start), kind)
    if _JSON.match(start.removeprefix(codecs.BOM_UTF8)):
        kind = "JSON"
    if start.startswith(_UTF32):
        kind = "text in UTF-32"
    if kind:
        hint = _HINTS.get(kind, _AS_CSV)
        raise UnusableFile("binary_file", f"This is {kind}, not a CSV file.", hint=hint, detail=kind)


def _find_encoding(path: Path, start: bytes, encodings: Sequence[str]) -> tuple[str, bytes]:
    """Return the first encoding in which the whole file can be decoded, and the BOM to skip."""
    for bom, name in UTF16.items():
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
        raise SettingsError("Unknown encoding {name!r}; write for example utf-8-sig, cp932.", name=name) from error


def _first_undecodable(path: Path, encoding: str, skip: int) -> tuple[int, bytes] | None:
    """Return offset and bytes of what is not this encoding, or None if all of the file is.

    Raises `UnusableFile` if it is another one that Python takes for cp932.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset = skip
    of_macintosh = None
    with path.open("rb") as file:
        file.seek(skip)
        while True:
            block = file.read(BLOCK_BYTES)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return offset - len(pending) + error.start, bytes(error.object[error.start : error.end])
            if encoding == "cp932":
                of_macintosh = of_macintosh or _first_of_macintosh(text, offset - len(pending))
            offset += len(block)
            if not block:
                break
    if of_macintosh:
        raise _macintosh(path, *of_macintosh)
    return None


def _first_of_macintosh(text: str, begin: int) -> tuple[int, int] | None:
    """Return offset and value of a byte that Python reads as cp932 though Windows has no character for it.

    The Macintosh had: 0x80 would be a control character, and 0xA0 and 0xFD to 0xFF characters of private use.
    `begin` is the offset of `text` in the file.
    """
    if not any(char in text for char in _NOT_OF_WINDOWS):
        return None
    at = min(place for char in _NOT_OF_WINDOWS if (place := text.find(char)) >= 0)
    return begin + len(text[:at].encode("cp932")), text[at].encode("cp932")[0]


def _macintosh(path: Path, offset: int, byte: int) -> UnusableFile:
    line = _line_at(path, offset)
    detail = f"byte 0x{byte:02X} at offset {offset}, line {line}, is none of Windows' Shift_JIS"
    return UnusableFile(
        "wrong_encoding",
        f"The file is probably in the Macintosh's Japanese encoding ({detail}).",
        line=line,
        hint="Save it as UTF-8; old programs on a Macintosh call its own encoding Shift_JIS, too.",
        value=f"0x{byte:02X}",
        detail=detail,
    )


def _is_japanese_up_to(path: Path, begin: int, end: int) -> bool:
    """True if the bytes in front of the first wrong one are UTF-8 beyond doubt, so that cp932 would only garble them.

    Two characters of three bytes each are enough: in cp932 such a row of bytes needs rare characters side by side.
    """
    found = 0
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    with path.open("rb") as file:
        file.seek(begin)
        while found < _BEYOND_DOUBT and (block := file.read(min(BLOCK_BYTES, end - file.tell()))):
            found += sum(1 for _ in islice(_JAPANESE.finditer(decoder.decode(block)), _BEYOND_DOUBT))
    return found >= _BEYOND_DOUBT


def _damaged(path: Path, offset: int, wrong: bytes) -> UnusableFile:
    line, value = _line_at(path, offset), " ".join(f"0x{byte:02X}" for byte in wrong)
    detail = f"UTF-8 up to line {line}, but not byte {value} at offset {offset}"
    return UnusableFile(
        "wrong_encoding",
        f"The file is damaged ({detail}).",
        line=line,
        hint="Two files in different encodings may have been joined, or the end was cut off. If the file is Shift_JIS "
        "all the same, set ONBOARD_ENCODINGS=cp932.",
        value=value,
        detail=detail,
    )


def _undecodable(path: Path, start: bytes, failures: Sequence[tuple[int, str, bytes]]) -> UnusableFile:
    if b"\x00" in start and not start.startswith(tuple(UTF16)):
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
        while offset > 0 and (block := file.read(min(offset, BLOCK_BYTES))):
            lines += block.count(b"\n")
            returns += block.count(b"\r")
            offset -= len(block)
    return 1 + (lines or returns)


def _read_header(path: Path, fmt: FileFormat) -> FileFormat:
    """Return `fmt` with what the first lines say: `sep=` line, delimiter, titles, line ending."""
    text = _first_text(path, fmt)
    lines = io.StringIO(text, newline="").readlines()
    at = next((number for number, line in enumerate(lines) if not is_blank(line)), None)
    if at is None:
        raise UnusableFile("empty_file", "The file holds nothing but blank lines.", hint="Export it again.")
    delimiters: tuple[str, ...] = DELIMITERS
    separator = _SEP_LINE.fullmatch(lines[at].rstrip("\r\n"))
    if separator:
        if separator[2] not in DELIMITERS:
            raise UnusableFile(
                "unknown_delimiter",
                f"Line {at + 1} says that {separator[2]!r} separates the columns; only comma, semicolon or tab may.",
                line=at + 1,
                hint="Export the file with one of them.",
                value=separator[2],
            )
        delimiters = (separator[2],)
        at += 1
        while at < len(lines) and is_blank(lines[at]):
            at += 1
    if at >= len(lines):
        raise UnusableFile(
            "no_records", "The file has a `sep=` line and nothing else.", line=at, hint="Export it again."
        )
    return _header_of(lines[at:], at + 1, delimiters, replace(fmt, has_sep_line=bool(separator)))


def _first_text(path: Path, fmt: FileFormat) -> str:
    """Return the start of the file, enough for any acceptable header."""
    text = ""
    for block in blocks(path, fmt):
        text += block
        if len(text) > 2 * MAX_RECORD_CHARS:
            break
    return text


def read_first_lines(path: Path, fmt: FileFormat, count: int) -> list[tuple[int, str]]:
    """Return the first lines that are not blank with their numbers, as they stand: no quote and no delimiter counts."""
    lines = enumerate(io.StringIO(_first_text(path, fmt), newline="").readlines(), start=1)
    return list(islice(((number, line.rstrip("\r\n")) for number, line in lines if not is_blank(line)), count))


def _header_of(lines: list[str], line: int, delimiters: Sequence[str], fmt: FileFormat) -> FileFormat:
    first = lines[0]
    if len(first) > MAX_RECORD_CHARS:
        most = max(map(first.count, delimiters))
        raise _too_many_columns(line, f"at least {most:,}") if most >= MAX_COLUMNS else too_long(line)
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
    batch = split_lines(lines, line, delimiter, final=True, stop_after=1).batch
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


def _too_many_columns(line: int, found: str) -> UnusableFile:
    return UnusableFile(
        "too_many_columns",
        f"The header in line {line} has {found} columns; {MAX_COLUMNS:,} are accepted.",
        line=line,
        hint="Export the columns that are needed; a file whose line breaks are lost looks like this too.",
        value=found,
        detail=f"{MAX_COLUMNS:,}",
    )

"""How a file is written, and its records."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

#: Longest record, in characters; a longer one is an error instead of a memory problem.
MAX_RECORD_CHARS = 1_048_576
#: Most columns a header may have.
MAX_COLUMNS = 1_000
#: Delimiters that are recognised, the first wins when two split the header equally often. Others (such as `|`) can be
#: the second byte of a cp932 character, so that the exact bytes of a record could not be derived from its text.
DELIMITERS = (",", ";", "\t")
#: A field of these alone is empty where the bytes of a file are looked at: blank, tab, no-break space, full-width
#: blank, a stray byte order mark. What is trimmed from keys is more (`accept.blanks`).
BLANKS = " \t\u00a0\u3000\ufeff"
#: Byte order marks of the encodings that are recognised by one alone.
UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


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
    empty_from: int = (
        0  #: physical line from which on there are only empty records, which are none; 0: it has no such end
    )
    empty_records: int = 0  #: how many they are

    @property
    def plain_encoding(self) -> str:
        """The encoding of the text behind the BOM."""
        return "utf-8" if self.encoding == "utf-8-sig" else self.encoding

    @property
    def bom(self) -> bytes:
        """The bytes in front of the text."""
        if not self.has_bom:
            return b""
        return next((bom for bom, name in UTF16.items() if name == self.encoding), codecs.BOM_UTF8)

    @property
    def bytewise(self) -> FileFormat:
        """The same format with every byte as one character, so that text is exact and quick to make.

        In UTF-8 and cp932 no byte of a longer character can be mistaken for a delimiter, a quote or a line end; in
        UTF-16 and in encodings with escape sequences it can, and there decoding is exact.
        """
        shifting = self.encoding.startswith(("utf-16", "utf-32", "utf-7", "utf_7", "iso2022", "hz"))
        return self if shifting else replace(self, encoding="latin-1")

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

    def part(self, begin: int, end: int) -> RecordBatch:
        """Return the records at positions `begin` to `end`, without the last."""
        errors = {at - begin: code for at, code in self.errors.items() if begin <= at < end}
        span = slice(begin, end)
        return RecordBatch(self.first_record + begin, self.lines[span], self.fields[span], self.texts[span], errors)

"""The header of a file: which column is what (data: `columns.toml`)."""

from __future__ import annotations

import difflib
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.accept.blanks import is_trimmed, trim
from tasks.csv_records import FileFormat, unguard
from tasks.elepay.catalogue import Catalogue
from tasks.error_texts import Words
from tasks.errors import SettingsError, UnusableFile
from tasks.identities import REFERENCE_KEY
from tasks.models import Reason

#: Columns without which no source can be created.
REQUIRED = ("customer_id", "payment_method", "resource")
#: Columns of which each value is a name, and no text.
KEYS = ("customer_id", "reference")
#: Columns that are one value, besides the `extra.` and `metadata.` ones.
SINGLE = (*REQUIRED, "description", "reference")
#: What a report appended to the file; ignored when it is dropped again.
OWN_PREFIX = "onboarding_"
#: docs/reference/elepay-api.md §4
KEY_CHARS = 20
#: A reason that a row keeps repeats no more of a title.
NAME_CHARS = 80
_RESERVED = ("route", "__")
_OWN = "own"
_DASHES = "_-\u2010\u2011\u2012\u2013\u2014\u2015"
#: In a copy with this column each value was guarded against spreadsheets (`csv_records.guard`).
GUARDED_TITLE = "onboarding_excel_safe"


class Column(NamedTuple):
    """One column of a file."""

    at: int  #: position, the first is 0
    title: str  #: as the file spells it
    target: str  #: `customer_id`, …, `extra.KEY`, `metadata.KEY`, `own` (of a report), or "" (kept, not sent)

    @property
    def name(self) -> str:
        """The title as every row repeats it: cut to a length that does not matter a million times."""
        return self.title if len(self.title) <= NAME_CHARS else self.title[: NAME_CHARS - 1] + "…"

    @property
    def part(self) -> str:
        """`extra`, `metadata`, or the target itself."""
        return self.target.partition(".")[0]

    @property
    def key(self) -> str:
        """The key inside `extra` or `metadata`."""
        return self.target.partition(".")[2]


def load_mapping(path: Path) -> dict[str, str]:
    """Return more titles from a TOML file, as `AcceptanceChecks.mapping` wants them.

    Lines read `customer_id = ["Member No", "会員コード"]` or `"Member No" = "customer_id"`, below `[columns]` or not.
    Raises `SettingsError` naming the line's key.
    """
    try:
        source = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            "The mapping file {name} cannot be read: {why}.", name=path.name, why=Words(error)
        ) from error
    columns = source.pop("columns", {})
    if not isinstance(columns, dict):
        raise SettingsError("The mapping file {name}: `columns` must be a table.", name=path.name)
    mapping: dict[str, str] = {}
    for key, value in {**source, **columns}.items():
        titles = value if isinstance(value, list) else [value]
        if not titles or not all(isinstance(title, str) and title.strip() for title in titles):
            raise SettingsError(
                "The mapping file {name}: {key!r} needs a title or a list of titles.", name=path.name, key=key
            )
        if target := _target_of_setting(key):
            mapping |= dict.fromkeys(map(_fold, titles), target)
        elif len(titles) == 1 and (target := _target_of_setting(titles[0])):
            mapping[_fold(key)] = target
        else:
            raise SettingsError(
                "The mapping file {name}: {key!r} names no column of ours; these exist: {columns}, extra.KEY,"
                " metadata.KEY.",
                name=path.name,
                key=key,
                columns=", ".join(SINGLE),
            )
    return mapping


def _target_of_setting(name: str) -> str:
    """Return the target that `name` spells exactly, or ""."""
    part, dot, key = name.partition(".")
    return name if name in SINGLE or (dot and key and part in ("extra", "metadata")) else ""


def read_columns(fmt: FileFormat, mapping: Mapping[str, str], catalogue: Catalogue) -> tuple[Column, ...]:
    """Return what each column of the header is.

    Raises `UnusableFile` for missing, doubled and impossible columns, all of them in one.
    """
    titles = [unguard(title) for title in fmt.header] if is_guarded(fmt) else list(fmt.header)
    explicit = {target for title in titles if (target := mapping.get(_fold(title)))}
    keys = {key.casefold(): key for key in catalogue.known_extra_keys}
    columns = []
    for at, title in enumerate(titles):
        target = mapping.get(_fold(title), "")
        if not target:
            target = _known_target(title, keys)
            if target in explicit:  # the mapping file says which column it is; this one is another
                target = ""
        columns.append(Column(at, trim(title), target))
    line = fmt.header_line
    if faults := [*_doubled(columns, line), *_bad_keys(columns, line), *_missing(columns, line)]:
        faults[0].also = tuple(faults[1:])
        raise faults[0]
    return tuple(columns)


def is_guarded(fmt: FileFormat) -> bool:
    """True if the file is a copy whose values were guarded against spreadsheets."""
    return any(title.strip().casefold() == GUARDED_TITLE for title in fmt.header)


def column_warnings(columns: Iterable[Column]) -> list[Reason]:
    """Return a warning for each column that is kept in the reports but not sent."""
    return [
        Reason("unknown_column", column.title) if column.title else Reason("unnamed_column", detail=str(column.at + 1))
        for column in columns
        if not column.target
    ]


def _fold(title: str) -> str:
    """Return a title so that spellings of the same word are equal."""
    plain = unicodedata.normalize("NFKC", title)
    return "".join(char for char in plain if char not in _DASHES and not is_trimmed(char)).casefold()


def _known_target(title: str, keys: Mapping[str, str]) -> str:
    folded = _fold(title)
    if unicodedata.normalize("NFKC", title).strip().casefold().startswith(OWN_PREFIX):
        return _OWN
    if folded in _SINGLE_TITLES:
        return _SINGLE_TITLES[folded]
    prefix, dot, key = unicodedata.normalize("NFKC", title).partition(".")
    part = _PART_TITLES.get(_fold(prefix), "") if dot else ""
    if not part:
        return ""
    key = key.strip()
    return f"{part}.{keys.get(key.casefold(), key) if part == 'extra' else key}"


def targets_of(titles: Iterable[str], mapping: Mapping[str, str]) -> set[str]:
    """Return which of our single columns some titles name."""
    known = {**_SINGLE_TITLES, **mapping}
    return {target for title in titles if (target := known.get(_fold(title)))}


def _titles(*targets: str) -> dict[str, str]:
    source = tomllib.loads(Path(__file__).with_name("columns.toml").read_text("utf-8"))
    return {_fold(title): target for target in targets for title in source[target]}


_SINGLE_TITLES = _titles(*SINGLE)
_PART_TITLES = _titles("extra", "metadata")


def _doubled(columns: Sequence[Column], line: int) -> Iterator[UnusableFile]:
    titles = Counter(column.title for column in columns if column.title and column.target != _OWN)
    targets = Counter(column.target for column in columns if column.target not in ("", _OWN))
    named: set[int] = set()
    for column in columns:
        same = [other for other in columns if other.target == column.target] if targets[column.target] > 1 else []
        if not same and titles[column.title] > 1:
            same = [other for other in columns if other.title == column.title]
        if same and column.at not in named:
            named.update(other.at for other in same)
            where = ", ".join(f"{other.title!r} (column {other.at + 1})" for other in same[:5])
            yield UnusableFile(
                "duplicate_column",
                f"The header in line {line} has the same column twice: {where}.",
                line=line,
                hint="Rename or remove one of them, or say in a mapping file which one is meant.",
                column=column.title,
                detail=where,
            )


def _bad_keys(columns: Sequence[Column], line: int) -> Iterator[UnusableFile]:
    for column in columns:
        if problem := _problem_of_key(column):
            yield UnusableFile(
                "bad_column",
                f"The column {column.title!r} {problem}.",
                line=line,
                hint="Rename or remove the column.",
                column=column.title,
                detail=problem,
            )


def _problem_of_key(column: Column) -> str:
    """Return why the key of an `extra.` or `metadata.` column cannot be sent, or ""."""
    key = column.key
    if column.part not in ("extra", "metadata"):
        return ""
    if column.target == f"metadata.{REFERENCE_KEY}":
        return "is written by this program, so that each source can be found again"
    if not key:
        return "has no key behind the dot"
    if len(key) > KEY_CHARS:
        return f"has a key of {len(key)} characters; elepay takes {KEY_CHARS}"
    if key.startswith(_RESERVED):
        return "has a key that elepay reserves (it starts with `route` or `__`)"
    return "" if key.isprintable() else "has a key with a control character"


#: What people put around a title: (required), 【必須】, a star.
_REMARKS = re.compile(
    r"\([^)]*\)?|\[[^\]]*\]?|[\u3010\u3014<\u300a][^\u3011\u3015>\u300b]*[\u3011\u3015>\u300b]?|[*\u203b:]"
)


def _nearest(target: str, titles: Iterable[str]) -> str:
    """Return the title that is probably meant for a column, or ""."""
    known = [title for title, named in _SINGLE_TITLES.items() if named == target]
    for title in titles:
        bare = _REMARKS.sub("", unicodedata.normalize("NFKC", title))
        if difflib.get_close_matches(_fold(bare[:NAME_CHARS]), known, n=1, cutoff=0.75):
            return title
    return ""


def _missing(columns: Sequence[Column], line: int) -> Iterator[UnusableFile]:
    found = {column.target for column in columns}
    missing = [name for name in REQUIRED if name not in found]
    if not missing:
        return
    titles = [column.title for column in columns if not column.target and column.title]
    close = [title for name in missing if (title := _nearest(name, titles))]
    if len(missing) == len(REQUIRED) and not close:
        # Perhaps there is no header and this is a customer: do not repeat it.
        hint = "The first line must hold the titles; or name them in a mapping file (`--mapping`)."
    elif close:
        hint = f"Is {', '.join(map(repr, close))} meant? Rename it, or name it in a mapping file (`--mapping`)."
    else:
        hint = "Add it, or say in a mapping file (`--mapping`) under which title it stands."
    names = ", ".join(missing)
    yield UnusableFile(
        "missing_column",
        f"The header in line {line} lacks {names}.",
        line=line,
        hint=hint,
        column=names,
        detail=", ".join(close),
    )

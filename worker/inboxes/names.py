"""Names of dropped files: which are ignored and why, which is whose companion, and safe names.

`RULES` is the only table of names that are not a file to onboard; docs/run/drop-folder.md shows it. A name that matches
no rule is a file: its content decides, and what is not a CSV is rejected with a reason.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import NamedTuple

#: Characters that some systems do not accept in names, or that make a path of a name.
_RESERVED = set('/\\:*?"<>|')
_STEM_CHARACTERS = 60


class NameKind(StrEnum):
    """What a name in the inbox says about a file."""

    FILE = "file"  #: to be onboarded
    UNFINISHED = "unfinished"  #: a program is still writing it, and renames it when it is complete
    JUNK = "junk"  #: an operating system or a program left it there
    COMPLETE = "complete"  #: a companion that declares its file complete
    CHECKSUM = "checksum"  #: a companion that moves with its file, and does not declare it complete


class Rule(NamedTuple):
    """A pattern of names that are all of the same kind."""

    kind: NameKind
    pattern: str  #: a regular expression for the whole name in lower case
    shown: str  #: as docs/run/drop-folder.md shows it
    whose: str  #: which programs use such names


#: The first rule that matches counts; letter case never matters.
RULES = (
    Rule(NameKind.UNFINISHED, r"\..*", "`.*`", "hidden files: rsync, lftp, vim, LibreOffice, macOS, NFS"),
    Rule(
        NameKind.UNFINISHED,
        r".*\.(part|partial)",
        "`*.part` `*.partial`",
        "Firefox, KDE; rclone (`x.csv.aB3dE5f7.partial`)",
    ),
    Rule(NameKind.UNFINISHED, r".*\.(tmp|temp|gstmp)", "`*.tmp` `*.temp` `*.gstmp`", "Windows, Office, gsutil"),
    Rule(NameKind.UNFINISHED, r".*\.filepart", "`*.filepart`", "WinSCP"),
    Rule(
        NameKind.UNFINISHED,
        r".*\.(crdownload|download|opdownload)",
        "`*.crdownload` `*.download` `*.opdownload`",
        "Chrome and Edge, Safari, Opera",
    ),
    Rule(
        NameKind.UNFINISHED,
        r".*\.(!ut|!qb|!bt|!sync|aria2)",
        "`*.!ut` `*.!qb` `*.!bt` `*.!sync` `*.aria2`",
        "download and synchronising programs",
    ),
    Rule(
        NameKind.UNFINISHED,
        r".*\.csv\.(?=.*[a-f])[0-9a-f]{8}",
        "`*.csv.6eF5b5dA`",
        "aws s3: eight hexadecimal digits, not all of them decimal (so no date)",
    ),
    Rule(
        NameKind.UNFINISHED,
        r".*\.sb-[0-9a-f]{8}-[a-z0-9]{6}",
        "`*.sb-1a2b3c4d-Ab12Cd`",
        "editors of macOS",
    ),
    Rule(NameKind.UNFINISHED, r".*\.(swp|swo|swx|kate-swp)", "`*.swp` `*.swo` `*.swx` `*.kate-swp`", "vim, nano, Kate"),
    Rule(NameKind.UNFINISHED, r"4913", "`4913`", "vim"),
    Rule(NameKind.UNFINISHED, r"~\$.*", "`~$*`", "Word and Excel"),
    Rule(NameKind.UNFINISHED, r".*~|#.*#", "`*~` `#*#`", "gedit, Emacs"),
    Rule(NameKind.JUNK, r"desktop\.ini|icon\r", "`desktop.ini` `Icon\\r`", "Windows, macOS"),
    Rule(
        NameKind.JUNK,
        r"(thumbs|ehthumbs|ehthumbs_vista)\.db(:.*)?",
        "`Thumbs.db` `ehthumbs.db` `ehthumbs_vista.db`",
        "Windows",
    ),
    Rule(NameKind.JUNK, r".*:zone\.identifier", "`*:Zone.Identifier`", "Windows, copied by WSL"),
    Rule(
        NameKind.JUNK,
        r"\$recycle\.bin|recycler|system volume information|__macosx|lost\+found|@eadir",
        "`$RECYCLE.BIN` `RECYCLER` `System Volume Information` `__MACOSX` `lost+found` `@eaDir`",
        "Windows, macOS, Linux, Synology",
    ),
    Rule(
        NameKind.COMPLETE,
        r".*\.(done|ready|ok|ctl|fin|trg)",
        "`*.done` `*.ready` `*.ok` `*.ctl` `*.fin` `*.trg`",
        "written after the file: it is complete",
    ),
    Rule(
        NameKind.CHECKSUM,
        r".*\.(md5|sha1|sha256|sha512|asc|sig)|(md5|sha1|sha256|sha512)sums(\.txt)?",
        "`*.md5` `*.sha1` `*.sha256` `*.sha512` `*.asc` `*.sig` `SHA256SUMS`",
        "checksums and signatures; they are not verified",
    ),
)
_COMPILED = tuple((re.compile(rule.pattern, re.DOTALL), rule.kind) for rule in RULES)
COMPANIONS = (NameKind.COMPLETE, NameKind.CHECKSUM)


def kind_of(name: str) -> NameKind:
    """Return the kind of a name, by the first of `RULES` that it matches."""
    lower = name.lower()
    return next((kind for pattern, kind in _COMPILED if pattern.fullmatch(lower)), NameKind.FILE)


def companions_of(files: Iterable[str], companions: Iterable[str]) -> dict[str, list[str]]:
    """Return file -> its companions, in order; files without companions are left out.

    `night.csv.done` and `night.done` belong to `night.csv`. An exact match counts before one in another letter case. A
    companion that matches two files belongs to neither.
    """
    indexes: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for name in files:
        stem = PurePath(name).stem
        for index, key in zip(indexes, (name, stem, name.lower(), stem.lower()), strict=True):
            index.setdefault(key, []).append(name)
    owned: dict[str, list[str]] = {}
    for companion in companions:
        base = companion.rpartition(".")[0]
        keys = (base, base, base.lower(), base.lower())
        owners = next((index[key] for index, key in zip(indexes, keys, strict=True) if key in index), [])
        if len(owners) == 1:
            owned.setdefault(owners[0], []).append(companion)
    return owned


def safe_name(name: str) -> str:
    """Return a file's name without anything that could be a path, a control sequence, or not text at all.

    The result is never longer, in bytes of UTF-8, than `name`. A safe name stays as it is.
    """
    safe = "".join("_" if char in _RESERVED or unicodedata.category(char)[0] == "C" else char for char in name).strip()
    return safe if safe.strip(".") else "_" * max(1, len(safe))


def stem_of(name: str) -> str:
    """Return the beginning of a safe name, short enough to be part of a folder's name."""
    stem = (PurePath(name).stem.strip(". ") or "_")[:_STEM_CHARACTERS]
    return stem.encode()[:150].decode(errors="ignore")


def name_of_reports(batch_id: int, name: str) -> str:
    """Return the name of a batch's reports in the outbox; `name` is the file's."""
    return f"{batch_id}-{stem_of(name)}"


def name_of_rest(name: str, mark: str) -> str:
    """Return the name under which a late upload returns to the inbox; `mark` makes it unique."""
    return f"{stem_of(name).partition('-continued-')[0]}-continued-{mark}{PurePath(name).suffix[:10]}"


def free_names(name: str) -> Iterator[str]:
    """Yield a name, and then the same with numbers, for a target that must not overwrite anything."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))

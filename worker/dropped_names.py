"""Names in the drop folder: which are passed over and why, whose companion a name is, and names made safe.

`RULES` is the one table of names that are no file to onboard; docs/operations.md shows it. A name that no rule knows is
a file: its content decides, and what is no CSV is rejected with a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from pathlib import PurePath
from typing import NamedTuple

#: Characters that some systems do not take in names, or take for a path.
_RESERVED = set('/\\:*?"<>|')
_STEM_CHARACTERS = 60


class NameKind(StrEnum):
    """What a name in the inbox says of a file."""

    FILE = "file"  #: to be onboarded
    UNFINISHED = "unfinished"  #: a program is still writing it; it gets its own name when it is whole
    JUNK = "junk"  #: an operating system or a program left it there
    COMPLETE = "complete"  #: a companion that says: the file beside me is complete
    CHECKSUM = "checksum"  #: a companion that goes with its file and says nothing of its being complete


class Rule(NamedTuple):
    """Names of one kind."""

    kind: NameKind
    pattern: str  #: a regular expression for the whole name in lower case
    shown: str  #: as docs/operations.md has it
    whose: str


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
    """Return what a name says, by the first of `RULES` that it matches."""
    lower = name.lower()
    return next((kind for pattern, kind in _COMPILED if pattern.fullmatch(lower)), NameKind.FILE)


def companions_of(files: Iterable[str], companions: Iterable[str]) -> dict[str, list[str]]:
    """Return which companions each file has, in order; a file without one is not in it.

    `night.csv.done` and `night.done` belong to `night.csv`, an exact name before another letter case of it. A companion
    that two files could have belongs to none of them.
    """
    indexes: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for name in files:
        stem = PurePath(name).stem
        for index, key in zip(indexes, (name, stem, name.lower(), stem.lower()), strict=True):
            index.setdefault(key, []).append(name)
    found: dict[str, list[str]] = {}
    for companion in companions:
        base = companion.rpartition(".")[0]
        keys = (base, base, base.lower(), base.lower())
        owners = next((index[key] for index, key in zip(indexes, keys, strict=True) if key in index), [])
        if len(owners) == 1:
            found.setdefault(owners[0], []).append(companion)
    return found


def safe_name(name: str) -> str:
    """Return a file's name without what could be a path, a control sequence or no text at all.

    It is never longer, in bytes of UTF-8, than the name that it is made of. A safe name stays as it is.
    """
    safe = "".join("_" if char in _RESERVED or unicodedata.category(char)[0] == "C" else char for char in name).strip()
    return safe if safe.strip(".") else "_" * max(1, len(safe))


def stem_of(name: str) -> str:
    """Return the beginning of a name that is already safe, short enough to become part of a folder's name."""
    stem = (PurePath(name).stem.strip(". ") or "_")[:_STEM_CHARACTERS]
    return stem.encode()[:150].decode(errors="ignore")


def name_of_reports(batch_id: int, name: str) -> str:
    """Return what the folder of a batch's reports is called in the outbox; `name` is the file's."""
    return f"{batch_id}-{stem_of(name)}"


def name_of_rest(name: str, mark: str) -> str:
    """Return under which name a file comes back to the inbox that went on after it was taken; `mark` makes it new."""
    return f"{stem_of(name).partition('-continued-')[0]}-continued-{mark}{PurePath(name).suffix[:10]}"

"""What happened to a row, in words: the ledger keeps it in English, `history_texts.toml` has the Japanese."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from tasks.reports.i18n import Texts

_PLACE = re.compile(r"\{\w+\}")
_NAME = re.compile(r"\\{(\w+)\\}")


def in_words(what: str, texts: Texts) -> str:
    """Return a line of the history in the reader's language; one that is not known stays as it is."""
    if texts.lang == "en":
        return what
    for pattern, japanese in _patterns():
        if found := pattern.fullmatch(what):
            return japanese.format(**{name: _value(name, value, texts) for name, value in found.groupdict().items()})
    return what


def _value(name: str, value: str, texts: Texts) -> str:
    """Return a value in words: elepay's word for a status, or the state that a person has decided on."""
    if name in ("status", "before"):
        return texts.status(value)
    return texts(f"state_{value}") if name == "state" else value


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return what matches a sentence, and the same in Japanese; those with more words of their own first."""
    known = tomllib.loads(Path(__file__).with_name("history_texts.toml").read_text("utf-8"))
    return [
        (re.compile(_NAME.sub(r"(?P<\1>.+?)", re.escape(english))), japanese)
        for english, japanese in sorted(known.items(), key=lambda each: -len(_PLACE.sub("", each[0])))
    ]

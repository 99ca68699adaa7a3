"""What happened to a row, in words: the ledger keeps it in English, `history_texts.toml` has the Japanese."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from tasks import stop_texts
from tasks.models import BatchState, StopCode
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


def of_batch_in_words(what: str, texts: Texts) -> str:
    """Return a line of the history of a whole batch: a state and why, or what somebody did."""
    state, _, why = what.partition(": ")
    if state in (each.value for each in BatchState):
        words = texts(f"batch_{state}")
        if why.startswith(state):  # "paused by hanako" says both
            return _stop_in_words(why, texts)
        return texts("batch_because", state=words, why=_stop_in_words(why, texts)) if why else words
    return in_words(what, texts)


def _stop_in_words(why: str, texts: Texts) -> str:
    """Return why a batch does not go on; the ledger keeps it in English."""
    if texts.lang == "en":
        return why
    for pattern, japanese in _stop_patterns():
        if found := pattern.fullmatch(why):
            return japanese.format(**found.groupdict())
    return why


def _value(name: str, value: str, texts: Texts) -> str:
    """Return a value in words: elepay's word for a status, a state, what somebody did, who may do it."""
    if name in ("status", "before"):
        return texts.status(value)
    if name == "deed":
        return texts(f"asked_{value}")
    return texts(f"state_{value}") if name == "state" else value


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return what matches a sentence, and the same in Japanese; those with more words of their own first."""
    known = tomllib.loads(Path(__file__).with_name("history_texts.toml").read_text("utf-8"))
    return [
        (re.compile(_NAME.sub(r"(?P<\1>.+?)", re.escape(english))), japanese)
        for english, japanese in sorted(known.items(), key=lambda each: -len(_PLACE.sub("", each[0])))
    ]


@cache
def _stop_patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return what matches the sentence of a stop, and the same in Japanese."""
    known = [texts for code, texts in stop_texts.templates().items() if code != StopCode.UNUSABLE]
    return [(re.compile(_once(_NAME.sub(r"(?P<\1>.+?)", re.escape(english)))), japanese) for english, japanese in known]


def _once(pattern: str) -> str:
    """Return a pattern in which a name that comes again must match the same text."""
    seen: set[str] = set()

    def again(found: re.Match[str]) -> str:
        name = found[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return found[0]

    return re.sub(r"\(\?P<(\w+)>\.\+\?\)", again, pattern)

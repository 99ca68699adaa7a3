"""Why a batch does not go on, as one sentence that says what to do, English and Japanese (data: `stop_texts.toml`)."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Self

from tasks import reason_texts
from tasks.errors import UnusableFile
from tasks.models import Stop, StopCode


class StopSentence(str):
    """The sentence of a stop, which knows its language; in itself English."""

    stop: Stop | None

    def __new__(cls, stop: Stop | None) -> Self:
        """Take the sentence of a stop."""
        text = super().__new__(cls, sentence(stop))
        text.stop = stop
        return text

    def in_language(self, lang: str) -> str:
        """Return it in a language."""
        return sentence(self.stop, lang)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go whole from one process to another."""
        return StopSentence, (self.stop,)


def sentence(stop: Stop | None, lang: str = "en") -> str:
    """Return the sentence; nothing for a batch that was not stopped."""
    if stop is None:
        return ""
    at = reason_texts.LANGUAGES.index(lang) if lang in reason_texts.LANGUAGES else 0
    values = dict(stop.values)
    if stop.code is StopCode.BREAKER:
        values.setdefault("go_on", "resume")  # `approve`, if it came before a canary was approved
    if stop.code is StopCode.UNUSABLE:
        values["message"] = reason_texts.explain_file(_unusable_file(values), lang)[0]
    elif "code" in values:
        answer = _texts()["answer_with_request" if values.get("request") else "answer"][at]
        values["answer"] = answer.format(**values)
    text: str = _texts()["stop"][stop.code][at]
    return text.format(**values)


def templates() -> dict[str, list[str]]:
    """Return the sentence of each code, with names in braces, in every language."""
    stops: dict[str, list[str]] = _texts()["stop"]
    return stops


def stop_of_file(error: UnusableFile) -> Stop:
    """Return why the batch of a file that cannot be used has no rows."""
    return Stop(
        StopCode.UNUSABLE,
        {
            "message": str(error),
            "code": error.code,
            "line": error.line,
            "column": error.column,
            "value": error.value,
            "detail": error.detail,
        },
    )


def _unusable_file(values: dict[str, Any]) -> UnusableFile:
    return UnusableFile(values.pop("code"), values.pop("message"), **values)


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("stop_texts.toml").read_text("utf-8"))

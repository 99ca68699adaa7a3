"""The sentences with which the program ends: English in the code, Japanese in `error_texts.toml`.

A sentence is a template with named values; the English template is the key of its translation. Values that are
sentences, errors or words of somebody else know their language, too.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

ENGLISH, JAPANESE = "en", "ja"
_NUMBERED = re.compile(r"\[Errno (\d+)\] ")


@runtime_checkable
class Translatable(Protocol):
    """What knows itself in another language."""

    def in_language(self, lang: str) -> str:
        """Return it in a language; in English if the language is unknown."""


class Sentence(str):
    """A sentence, or a part of one, in English, as text; `in_language` says it in another language."""

    template: str
    values: Mapping[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Self:
        """Fill the template in; without values, braces in it mean nothing."""
        sentence = super().__new__(cls, _filled(template, values, ENGLISH))
        sentence.template, sentence.values = str(template), values
        return sentence

    def in_language(self, lang: str) -> str:
        """Return it in a language; in English if the language, or its translation, is unknown."""
        if lang != JAPANESE:
            return str(self)
        return _filled(_texts()["sentences"].get(self.template, self.template), self.values, lang)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go whole from one process to another."""
        return _sentence, (self.template, dict(self.values))


class Words(str):
    """Words that come in English from the system or a library, or from the ledger: the detail of an unusable file."""

    def in_language(self, lang: str) -> str:
        """Return them in a language; as they are if their translation is unknown."""
        return _in_japanese(str(self)) if lang == JAPANESE else str(self)


#: English text that knows its Japanese.
Said = Sentence | Words


def system_reason(error: BaseException) -> Words:
    """Return why the operating system did not do something; of an error that is not its own only the class is said."""
    return Words(getattr(error, "strerror", None) or type(error).__name__)


def joined(sentences: Iterable[str]) -> Sentence:
    """Return several sentences in a row."""
    first, *others = sentences
    if not others:
        return first if isinstance(first, Sentence) else Sentence(first)
    return Sentence("{first}; {others}", first=first, others=joined(others))


def listed(words: Iterable[str]) -> Sentence:
    """Return several words in a row."""
    first, *others = words
    if not others:
        return first if isinstance(first, Sentence) else Sentence(first)
    return Sentence("{first}, {others}", first=first, others=listed(others))


def demanded(kind: str, message: str, values: Mapping[str, Any]) -> str:
    """Return, in Japanese, what a rule of pydantic demands of a setting; its own message for a rule unknown here."""
    template = _texts()["pydantic"].get(kind)
    return message if template is None else template.format(**{**values, "expected": _alternatives(values)})


def _alternatives(values: Mapping[str, Any]) -> str:
    return str(values.get("expected", "")).replace(" or ", "、").replace(", ", "、")


def _sentence(template: str, values: Mapping[str, Any]) -> Sentence:
    return Sentence(template, **values)


def _filled(template: str, values: Mapping[str, Any], lang: str) -> str:
    if not values:
        return str(template)
    said = {name: one.in_language(lang) if isinstance(one, Translatable) else one for name, one in values.items()}
    return template.format(**said)


def _in_japanese(words: str) -> str:
    texts = _texts()
    if words in texts["words"]:
        return str(texts["words"][words])
    numbered = _NUMBERED.match(words)
    number = int(numbered[1]) if numbered else _numbers_by_reason().get(words.lower())
    if number is not None:
        code = errno.errorcode.get(number, str(number))
        return str(texts["system"].get(code) or texts["other_system"].format(code=code))
    for pattern, japanese in texts["patterns"].items():
        words = re.sub(pattern, japanese, words)
    return words


@cache
def _numbers_by_reason() -> Mapping[str, int]:
    return {os.strerror(number).lower(): number for number in errno.errorcode}


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("error_texts.toml").read_text("utf-8"))

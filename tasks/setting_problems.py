"""What is said about settings that are malformed, or that cannot be decided without a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.error_texts import JAPANESE, Sentence, demanded, joined


class Demand(str):
    """What pydantic demands of a setting: its own message in English, in Japanese by the kind of the rule."""

    kind: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, problem: Mapping[str, Any]) -> Demand:
        """Return it from one of pydantic's errors."""
        demand = cls(problem["msg"])
        demand.kind, demand.values = problem["type"], problem.get("ctx", {})
        return demand

    def in_language(self, lang: str) -> str:
        """Return it in a language."""
        return demanded(self.kind, str(self), self.values) if lang == JAPANESE else str(self)


def sentence_of(error: ValidationError) -> Sentence:
    """Return every problem of the settings."""
    return joined(_say(problem) for problem in error.errors(include_input=False))


def _say(problem: Mapping[str, Any]) -> Sentence:
    what = getattr(problem.get("ctx", {}).get("error"), "sentence", None) or Demand.of(problem)
    if not problem["loc"]:  # two settings that do not fit; the sentence names them
        return what if isinstance(what, Sentence) else Sentence(what)
    return Sentence("{name}: {what}", name=problem["loc"][0], what=what)


def which_of_two(name: str, former: Path, now: Path, why: Sentence) -> Sentence:
    """Return the sentence, and the commands, that let a person choose between a former default and today's."""
    go_on = Sentence(
        "to go on with it, wherever onboard is started:  {command}", command=f"export {name}={shlex.quote(str(former))}"
    )
    if now.exists():
        ways = [go_on, Sentence("to use the other:  {command}", command=f"export {name}={shlex.quote(str(now))}")]
    else:
        move = f"mkdir -p {shlex.quote(str(now.parent))} && mv {shlex.quote(str(former))} {shlex.quote(str(now))}"
        ways = [Sentence("to move it, while nothing uses it:  {command}", command=move), go_on]
    return Sentence(
        "{name} is not set, and {former} is in use: it was the default before, now that is {now}. Nothing was done:"
        " {why}. Choose one:\n  {first}\n  {second}",
        name=name,
        former=former,
        now=now,
        why=why,
        first=ways[0],
        second=ways[1],
    )

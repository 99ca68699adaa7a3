"""What is said about a command line that no command understands; its frame and its English words are typer's."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

import typer
from typer.core import TyperGroup

from tasks.error_texts import ENGLISH, JAPANESE, Translatable, Words
from worker.cli.help_texts import say_in_japanese
from worker.failures import spoken_language

#: With this variable a shell asks for what may follow; its name is typer's.
COMPLETES = "_ONBOARD_COMPLETE"
#: What all errors of a command line are, typer's own too; typer gives its name to nobody.
_USAGE_ERROR = cast("type[Any]", typer.BadParameter.__mro__[1])


class Commands(TyperGroup):
    """The root of all commands: it explains a command line that is wrong, and gives help in Japanese."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Read the options of the root; help is given in the language of whoever reads it."""
        if COMPLETES not in os.environ and spoken_language() == JAPANESE:
            say_in_japanese(self, in_tables=True)
        with _explained():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """Read the rest of the command line, and run the command."""
        with _explained():
            return super().invoke(ctx)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Print the object of an error of the command line, and say its sentence in the language of whoever reads it."""
    try:
        yield
    except _USAGE_ERROR as error:
        if not error.format_message():  # there was nothing but the name of a group: its help is shown
            raise
        lang = spoken_language()
        if isinstance(error.message, Translatable):
            error.message = error.message.in_language(lang)
        said = Words(error.format_message()).in_language(lang)
        if "--json" in sys.argv:
            print_unusable(said, code="usage")
        if lang == ENGLISH:
            raise
        raise _USAGE_ERROR(said, ctx=error.ctx) from error


def print_unusable(message: str, *, code: str, line: int | None = None, hint: str = "") -> None:
    """Print, on standard output, what `--json` says about a command that did nothing."""
    verdict = {"verdict": "unusable", "error": {"code": code, "message": message, "line": line, "hint": hint}}
    typer.echo(json.dumps(verdict, ensure_ascii=False))

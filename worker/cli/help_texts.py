"""The help of every command in Japanese (data: `help_texts.toml`; the English text is the key)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

_PANELS = {"argument": "引数", "option": "オプション"}
_COMMANDS = "コマンド"
#: Where a Japanese line may break without harm.
_PAUSE = re.compile(r"([、。：）])(?=[^、。：）])|(?<=[^、。：） ])(?=（)")


def say_in_japanese(command: Any, *, in_tables: bool = False) -> None:
    """Exchange the help of a command and of all below it.

    `in_tables` is for a terminal: rich cuts off what has no blank within the width of a column.
    """
    texts = tomllib.loads(Path(__file__).with_name("help_texts.toml").read_text("utf-8"))
    for each in every_command(command):
        _exchange(each, texts)
        if in_tables:
            _let_lines_break(each)


def every_command(command: Any) -> Iterator[Any]:
    """Yield a command and all below it."""
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from every_command(child)


def shown_parameters(command: Any) -> list[Any]:
    """Return arguments and options of a command, `--help` too."""
    own_help = command.get_help_option(typer.Context(command))
    return [*command.params, *([own_help] if own_help and own_help not in command.params else [])]


def _let_lines_break(command: Any) -> None:
    command.short_help = _PAUSE.sub(_with_blank, (command.help or "").partition("\n")[0])
    for parameter in shown_parameters(command):
        parameter.help = _PAUSE.sub(_with_blank, parameter.help)


def _with_blank(found: re.Match[str]) -> str:
    return f"{found[0]} "


def _exchange(command: Any, texts: Mapping[str, str]) -> None:
    command.help = texts.get(command.help, command.help)
    command.rich_help_panel = _COMMANDS
    head, blanks, examples = (command.epilog or "").partition("  ")
    command.epilog = texts.get(head, head) + blanks + examples
    for parameter in shown_parameters(command):
        parameter.help = texts.get(parameter.help, parameter.help)
        parameter.rich_help_panel = _PANELS[parameter.param_type_name]

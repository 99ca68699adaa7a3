"""The manual page onboard(1), in roff, from the same commands as their help: `python tests/help_page.py` writes it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from help_page import commands_below, examples_of, parameters_of, root_command, usage_of

from tasks.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "man"
PAGE, JAPANESE_PAGE = FOLDER / "onboard.1", FOLDER / "ja" / "onboard.1"

SECTIONS = {
    "name": ("NAME", "名前"),
    "synopsis": ("SYNOPSIS", "書式"),
    "options": ("OPTIONS", "オプション"),
    "commands": ("COMMANDS", "コマンド"),
    "exit": ("EXIT STATUS", "終了コード"),
    "environment": ("ENVIRONMENT", "環境変数"),
}
MANUAL = ("User Commands", "ユーザーコマンド")
#: The descriptions of settings are in English only.
SETTINGS_ELSEWHERE = (
    "すべての設定は環境変数または .env で指定します。一覧は英語版のこのページ（LANG=C man onboard）にあります。"
)


def page(*, japanese: bool = False) -> str:
    """Return the page that the commands deserve."""
    root = root_command(japanese=japanese)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    lines = [
        "'\\\" -*- coding: utf-8 -*-",
        '.\\" Written by tests/help_page.py from the commands themselves: change those.',
        f'.TH ONBOARD 1 "" "onboard {version}" "{MANUAL[japanese]}"',
        ".ad l",
    ]
    parts = {
        "name": [_text(f"onboard - {root.help}").replace(" - ", " \\- ", 1)],
        "synopsis": [".B onboard", "COMMAND"],
        "options": [*_parameters(root)],
        "commands": [line for words, command in commands_below(root) for line in _command(words, command)],
        "exit": [*_exit_codes(root.epilog or "")],
        "environment": [_text(SETTINGS_ELSEWHERE)] if japanese else [*_settings()],
    }
    for name, body in parts.items():
        lines += [f".SH {SECTIONS[name][japanese]}", *body]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Write the page in both languages."""
    JAPANESE_PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    JAPANESE_PAGE.write_text(page(japanese=True), encoding="utf-8")


def _command(words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    yield f".SS {' '.join(words)}"
    yield _text(usage_of(words, command))
    for paragraph in (command.help or "").strip().split("\n\n"):
        yield from (".PP", _text(paragraph))
    yield from _parameters(command)
    head, examples = examples_of(command)
    if examples:
        yield from (".PP", _text(head), ".RS", ".nf", *map(_text, examples), ".fi", ".RE")


def _parameters(command: click.Command) -> Iterator[str]:
    for name, parameter in parameters_of(command):
        names = ", ".join(rf"\fB{_text(each)}\fR" for each in name.split(", "))
        yield from (".TP", names + _value_of(parameter), _text(getattr(parameter, "help", "")))


def _value_of(parameter: click.Parameter) -> str:
    """Return what stands behind an option that takes a value."""
    if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
        return ""
    return rf" \fI{parameter.metavar or 'VALUE'}\fR"


def _exit_codes(epilog: str) -> Iterator[str]:
    for each in re.split(r"[:：]", epilog, maxsplit=1)[1].split("·"):
        code, meaning = each.strip().rstrip(".").split(" ", 1)
        yield from (".TP", code, _text(meaning))


def _settings() -> Iterator[str]:
    for field in Settings.model_fields.values():
        if field.validation_alias is not None:
            yield from (".TP", rf"\fB{field.validation_alias.choices[0]}\fR", _text(field.description or ""))


def _text(text: str) -> str:
    """Return text as roff takes it, in one line; what stands in backquotes is bold."""
    plain = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")
    bold = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", plain)
    return rf"\&{bold}" if bold.startswith((".", "'")) else bold

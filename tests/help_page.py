"""Writes docs/reference/help.md and docs/ja/commands.md from the commands' own help: `python tests/help_page.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import typer

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, JAPANESE_PAGE = DOCS / "reference" / "help.md", DOCS / "ja" / "commands.md"

HEAD = """\
# Help of every command

`.venv/bin/python tests/help_page.py` writes this page from what `onboard COMMAND --help` says, and a test compares
the two. [The commands](commands.md) has what is worth knowing besides.
"""

JAPANESE_HEAD = """\
# コマンド一覧

`ONBOARD_LANG=ja onboard COMMAND --help` で表示される内容です。
`.venv/bin/python tests/help_page.py` で作成し、テストで照合しています。
`.env` に `ONBOARD_LANG=ja` と書いておくと、ヘルプもエラーも日本語で表示されます。
"""


def page(*, japanese: bool = False) -> str:
    """Return the page that the commands deserve."""
    from worker.cli import app
    from worker.cli.help_texts import say_in_japanese

    root = typer.main.get_command(app)
    if japanese:
        say_in_japanese(root)
    return (JAPANESE_HEAD if japanese else HEAD) + "".join(
        _section(words, command) for words, command in _commands(root, ("onboard",))
    )


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    children = getattr(command, "commands", {})
    if not children or (command.callback and getattr(command, "invoke_without_command", False)):
        yield words, command
    for name in sorted(children):
        yield from _commands(children[name], (*words, name))


def _section(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    lines = [_line(parameter) for parameter in shown]
    table = "\n| | |\n|---|---|\n" + "".join(lines) if lines else ""
    example = f"\n{command.epilog}\n" if command.epilog else ""
    return f"\n## {' '.join(words)}\n\n```\n{usage}\n```\n\n{(command.help or '').strip()}\n{example}{table}"


def _line(parameter: click.Parameter) -> str:
    name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        name = str(parameter.name).upper()
    return f"| `{name}` | {getattr(parameter, 'help', None) or ''} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    JAPANESE_PAGE.write_text(page(japanese=True), encoding="utf-8")

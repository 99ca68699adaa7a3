"""Writes what is made of the commands' own help: `python tests/help_page.py`.

docs/reference/help.md and docs/ja/commands.md, and by `man_page` the manual pages in docs/man.
"""

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
    return (JAPANESE_HEAD if japanese else HEAD) + "".join(
        _section(words, command) for words, command in commands_below(root_command(japanese=japanese))
    )


def root_command(*, japanese: bool = False) -> click.Command:
    """Return `onboard` itself, with its help in one language."""
    from worker.cli import app
    from worker.cli.help_texts import say_in_japanese

    root = typer.main.get_command(app)
    if japanese:
        say_in_japanese(root)
    return root


def commands_below(
    command: click.Command, words: tuple[str, ...] = ("onboard",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that has none below it, with the words that name it."""
    children = getattr(command, "commands", {})
    if not children or (command.callback and getattr(command, "invoke_without_command", False)):
        yield words, command
    for name in sorted(children):
        yield from commands_below(children[name], (*words, name))


def usage_of(words: tuple[str, ...], command: click.Command) -> str:
    """Return how a command is typed, in one line."""
    context = click.Context(command, info_name=" ".join(words))
    return " ".join([*words, *command.collect_usage_pieces(context)])


def parameters_of(command: click.Command) -> list[tuple[str, click.Parameter]]:
    """Return what may follow a command, each with the name under which it is shown."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return [(_name(parameter), parameter) for parameter in shown]


def examples_of(command: click.Command) -> tuple[str, list[str]]:
    """Return the examples in a command's help, and the word before them."""
    head, _, examples = (command.epilog or "").partition("  ")
    return (head, examples.split("  ·  ")) if examples else ("", [])


def _section(words: tuple[str, ...], command: click.Command) -> str:
    lines = [f"| `{name}` | {getattr(parameter, 'help', '')} |\n" for name, parameter in parameters_of(command)]
    table = "\n| | |\n|---|---|\n" + "".join(lines) if lines else ""
    example = f"\n{command.epilog}\n" if command.epilog else ""
    usage = usage_of(words, command)
    return f"\n## {' '.join(words)}\n\n```\n{usage}\n```\n\n{(command.help or '').strip()}\n{example}{table}"


def _name(parameter: click.Parameter) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


if __name__ == "__main__":
    import man_page

    PAGE.write_text(page(), encoding="utf-8")
    JAPANESE_PAGE.write_text(page(japanese=True), encoding="utf-8")
    man_page.write()

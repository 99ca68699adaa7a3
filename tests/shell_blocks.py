"""What the pages tell people to type: every command of every block, and what can be said of it without running it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer
from documents import PAGES, ROOT

#: It is written by the program; `tests/help_page.py` has a test of its own.
WRITTEN = {"docs/reference/help.md"}
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^#.*$|\s+# .*$")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each block of a page."""
    for indent, language, text in _BLOCK.findall(PAGES[page]):
        yield language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)


def csv_of(page: str) -> str:
    """Return the first block of a page that is a CSV."""
    return next(text for language, text in blocks(page) if not language and text.count(",") >= 4)


def commands_of(page: str) -> list[str]:
    """Return what a page tells people to type, in its order: lines of `sh` blocks, and those after a `$`."""
    found: list[str] = []
    for language, text in blocks(page):
        if language in ("sh", "bash", "shell", "console"):
            found += _lines(text)
        elif not language:
            found += [line[2:] for line in _lines(text) if line.startswith("$ ")]
    return found


def _lines(text: str) -> list[str]:
    """Return the commands of a script: a line each, but for a here-document and a line that is continued."""
    lines, found = iter(text.replace("\\\n", " ").splitlines()), []
    for line in lines:
        if (until := re.search(r"<<'(\w+)'", line)) is not None:
            document = [line]
            while document[-1] != until[1]:
                document.append(next(lines))
            found.append("\n".join(document))
        elif command := _COMMENT.sub("", line).strip():
            found.append(command)
    return found


#: Every command of every page, with its page.
TYPED = {page: commands for page in PAGES if page not in WRITTEN and (commands := commands_of(page))}


def faults_of(command: str) -> list[str]:
    """Return what in a command does not exist here: an option of ours, a target, a service, a unit, a file."""
    faults = [fault for words in _onboard_words(command) for fault in _faults_of_words(words)]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    faults += [f"make {name}" for name in re.findall(r"\bmake (?:-C \S+ )?([a-z]+)", command) if name not in targets]
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    profiles = re.findall(r"--profile (\w+)", command)
    faults += [name for name in profiles if f"profiles: [{name}]" not in compose]
    services = re.findall(r"docker compose .*?\b(?:exec|cp)(?: -T)? (\w+)", command)
    faults += [name for name in services if f"\n  {name}:" not in compose]
    units = re.findall(r"\bonboard-(?:worker|watch|beat)\b@?", command)
    faults += [name for name in units if not (ROOT / "deploy" / "systemd" / f"{name}.service").exists()]
    files = re.findall(r"/opt/onboard/((?:deploy|docs)/[\w./]*\w)", command) + re.findall(
        r"\bsample_data/\w+\.\w+", command
    )
    return faults + [name for name in files if not (ROOT / name).exists()]


def _onboard_words(command: str) -> Iterator[list[str]]:
    """Yield the words after each `onboard` that is run by a command; not of a user or database of that name."""
    for line in command.splitlines():
        if (found := re.match(r"(?:.* exec \w+ )?onboard ([a-z].*)", line)) is not None:
            yield shlex.split(found[1], comments=True)


def _faults_of_words(words: list[str]) -> list[str]:
    command, rest = _command_of(words)
    if command is None:
        return [f"onboard {' '.join(words)}"]
    try:
        command.make_parser(command.context_class(command)).parse_args(args=rest)
    except Exception as error:  # noqa: BLE001 - of the click that typer brings
        return [f"{command.name}: {error}"]
    return []


def understand(words: list[str]) -> None:
    """Read a command line as `onboard` does, to its last value, without running it; raise what it would say."""
    command, rest = _command_of(words)
    if command is None:
        raise ValueError(f"there is no `onboard {' '.join(words)}`")
    command.make_context(command.name, rest)


def _command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the first words name, or None, and the words behind them."""
    from worker.cli import app

    command: Any = typer.main.get_command(app)
    rest = list(words)
    while children := getattr(command, "commands", {}):
        if rest and rest[0] in children:
            command = children[rest.pop(0)]
        else:  # a group that is a command itself, such as `onboard console`
            return (command if command.invoke_without_command else None), rest
    return command, rest

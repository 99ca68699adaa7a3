"""The commands people type.

Exit codes: 0 every row is created or skipped, 1 finished with rows to look at, 2 unusable input or settings,
3 halted, paused or interrupted: nothing is lost, `onboard resume` goes on; 70 not enough memory, or a fault of
the program: nothing is lost.

==============  ===========================================================
sending         run, check
reporting       status, report, follow-up, audit
reviewing       open, dismiss, find
decisions       pause, resume, approve, cancel, retry, resolve, show
installation    doctor, ledger
processes       beat, worker, watch
console         console, and who may sign in there
rehearsal       rehearse, demo, simulator
command_runner  from settings to exit code; errors become sentences
help_texts      the help of every command in Japanese
usage_errors    what is said about a command line that no command understands
options         arguments and options that several share; exit codes
==============  ===========================================================
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY, is_too_small, save_address_space
from worker.cli import console, decisions, installation, processes, rehearsal, reporting, reviewing, sending
from worker.cli.command_runner import fail_by
from worker.cli.options import ALL_DONE
from worker.cli.usage_errors import COMPLETES, Commands
from worker.failures import line_of_end, spoken_language, take_any_text
from worker.streams import outlive_readers

#: The name under which pip knows the program.
PACKAGE = "elepay-onboarding"

app = typer.Typer(
    name="onboard",
    cls=Commands,
    help="A CSV of customers in, one elepay payment source per row out, exactly once, reconciled reports back.",
    epilog="Exit codes: 0 all rows created or skipped · 1 rows to look at · 2 unusable input or settings ·"
    " 3 halted, paused or interrupted · 70 not enough memory.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every command below it as well
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for group in (sending, reporting, reviewing, decisions, installation, processes, rehearsal):
    app.add_typer(group.commands)
app.add_typer(installation.ledger, name="ledger")
app.add_typer(console.console, name="console")


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        typer.echo(f"{PACKAGE} {version(PACKAGE)}")
    except PackageNotFoundError:  # run from its source, which was never installed
        typer.echo(f"{PACKAGE}, not installed as a package: its version is unknown")
    raise typer.Exit


@app.callback()
def _options_of_all(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print name and version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Take what stands before the command; settings are not read yet."""


def main() -> None:
    """Run the command line (the console script `onboard`)."""
    save_address_space()
    outlive_readers()
    take_any_text()
    if is_too_small():
        _say_no_memory()
    gc.disable()  # until everything is loaded: `collect_from_now_on`
    try:
        if COMPLETES in os.environ:
            _complete()
        app(prog_name="onboard")
    except Exception as error:  # noqa: BLE001 - what no command has explained
        try:
            fail_by(error, json_output="--json" in sys.argv)
        except typer.Exit as end:
            raise SystemExit(end.exit_code) from None


def _complete() -> NoReturn:
    """Answer a shell that asks what may follow, quickly, and with nothing if it cannot be told.

    Without helps: typer would load what shows them, which takes longer than all the rest, and fish asks twice.
    """
    root = typer.main.get_command(app)
    _leave_out_helps(root)
    with contextlib.suppress(Exception):
        root(prog_name="onboard")
    raise SystemExit(ALL_DONE)


def _leave_out_helps(command: Any) -> None:
    command.help = command.short_help = None
    for parameter in command.params:
        parameter.help = None
    for child in getattr(command, "commands", {}).values():
        _leave_out_helps(child)


def _say_no_memory() -> NoReturn:
    lang = spoken_language()
    sys.stderr.write(f"{line_of_end(NO_MEMORY.in_language(lang), lang)}\n")
    raise SystemExit(OUT_OF_MEMORY) from None

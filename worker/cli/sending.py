"""`onboard run` and `onboard check`: a file, and what would become of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.error_texts import Sentence
from worker.cli.command_runner import fail, leave, set_window, with_notifications
from worker.cli.options import (
    ExcelSafeOption,
    FileArgument,
    JsonOption,
    LangOption,
    MappingOption,
    NotBeforeOption,
    NoWorkersOption,
    ReportsOption,
    VerifyFirstOption,
    WorkersOption,
    YesOption,
)

commands = typer.Typer()


@commands.command(
    epilog="Examples:  onboard run customers.csv  ·  onboard run --json customers.csv  ·  REDIS_URL=redis://cache/0"
    " onboard run --no-workers customers.csv"
)
def run(
    file: FileArgument,
    reports: ReportsOption = None,
    workers: WorkersOption = None,
    no_workers: NoWorkersOption = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave file and sending to the fleet, or the watcher here, and end.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Create one more source for identities that have one.")
    ] = False,
    yes: YesOption = False,
    verify_first: VerifyFirstOption = False,
    mapping: MappingOption = None,
    lang: LangOption = None,
    canary: Annotated[
        int | None, typer.Option(help="Send so many rows, then wait for `onboard approve`.", min=0, show_default=False)
    ] = None,
    not_before: NotBeforeOption = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="HH:MM; what is not sent by then waits for the next night (with --not-before) or for you.",
            show_default=False,
        ),
    ] = None,
    excel_safe: ExcelSafeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Create one source per row of FILE, and write the reports.

    The same command again goes on where an interrupted run stopped.
    """
    from worker.commands import run

    if no_wait and (reports is not None or workers is not None or excel_safe):
        fail(
            Sentence(
                "--no-wait sends nothing and writes no reports: leave --workers, --reports and --excel-safe out"
                " (`onboard report BATCH` takes the last two)"
            ),
            json_output=json_output,
        )
    if not_before is not None and (no_workers or no_wait):
        fail(
            Sentence(
                "--not-before is for the workers of this command; a fleet keeps to ONBOARD_NOT_BEFORE and ONBOARD_UNTIL"
            ),
            json_output=json_output,
        )
    if not_before is not None:
        set_window(not_before, until)
        until = None
    options = run.Options(
        file=file,
        reports=reports,
        workers=workers,
        no_workers=no_workers,
        again=again,
        yes=yes,
        no_wait=no_wait,
        verify_first=verify_first,
        mapping=mapping,
        canary=canary,
        until=until,
        lang=lang,
        excel_safe=excel_safe,
    )
    leave(
        with_notifications(lambda services, screen: run.run(services, options, screen)),
        json_output=json_output,
        lang=lang,
    )


@commands.command(
    epilog="Examples:  onboard check customers.csv  ·  onboard check --report checked customers.csv  ·  onboard check"
    " --offline --json customers.csv"
)
def check(
    file: FileArgument,
    mapping: MappingOption = None,
    lang: LangOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask elepay which methods this key has.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the reports of the check: every row, as a run writes them.", show_default=False),
    ] = None,
    excel_safe: ExcelSafeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Do everything but the sending: all errors by cause, what would be skipped, and how long the run would take."""
    from worker.commands import check

    options = check.Options(file, mapping=mapping, offline=offline, report=report, lang=lang, excel_safe=excel_safe)
    leave(
        lambda services, screen: check.check(services, options, screen),
        json_output=json_output,
        lang=lang,
    )

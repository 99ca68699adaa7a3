"""What a person decides about a batch or a row: pause, resume, approve, cancel, retry, resolve; and show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.error_texts import Sentence
from worker.cli.command_runner import fail, leave, with_notifications
from worker.cli.options import (
    BatchArgument,
    ExcelSafeOption,
    JsonOption,
    LangOption,
    NoWorkersOption,
    ReportsOption,
    UntilOption,
    WorkersOption,
    YesOption,
)

commands = typer.Typer()


@commands.command()
def pause(batch: BatchArgument, json_output: JsonOption = False) -> None:
    """Send nothing more of a batch until it is resumed."""
    from worker.commands import batch_decisions

    leave(lambda services, screen: batch_decisions.pause(services, batch, screen), json_output=json_output)


@commands.command()
def resume(
    batch: BatchArgument,
    not_before: Annotated[
        str | None, typer.Option(help="HH:MM; with --until: its nightly window from now on.", show_default=False)
    ] = None,
    until: UntilOption = None,
    at_any_time: Annotated[bool, typer.Option("--at-any-time", help="Take its nightly window away.")] = False,
    verify_first: Annotated[
        bool, typer.Option("--verify-first", help="Look each row up at elepay before it is sent: the ledger was lost.")
    ] = False,
    reports: ReportsOption = None,
    lang: LangOption = None,
    excel_safe: ExcelSafeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Let a stopped batch go on: with the fleet or the watcher that is at work here, else in this command, to its end.

    A batch keeps the nightly window that it was brought with; only these options change it.
    """
    from worker.commands.batch_decisions import NewWindow, resume
    from worker.commands.sending import ReportOptions

    window, options = NewWindow(not_before, until, at_any_time), ReportOptions(reports, lang, excel_safe)
    leave(
        with_notifications(
            lambda services, screen: resume(services, batch, window, screen, options, verify_first=verify_first)
        ),
        json_output=json_output,
        lang=lang,
    )


@commands.command()
def approve(
    batch: BatchArgument,
    reports: ReportsOption = None,
    lang: LangOption = None,
    excel_safe: ExcelSafeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Let the rest of a batch run after its canary rows; nothing else does."""
    from worker.commands import batch_decisions
    from worker.commands.sending import ReportOptions

    options = ReportOptions(reports, lang, excel_safe)
    leave(
        with_notifications(lambda services, screen: batch_decisions.approve(services, batch, screen, options)),
        json_output=json_output,
        lang=lang,
    )


@commands.command()
def cancel(batch: BatchArgument, yes: YesOption = False, json_output: JsonOption = False) -> None:
    """Give a batch up: what was not sent never is (another file may bring it again)."""
    from worker.commands import batch_decisions

    leave(lambda services, screen: batch_decisions.cancel(services, batch, screen, yes=yes), json_output=json_output)


@commands.command(epilog="Example:  onboard retry 12")
def retry(
    batch: BatchArgument,
    workers: WorkersOption = None,
    no_workers: NoWorkersOption = False,
    reports: ReportsOption = None,
    lang: LangOption = None,
    excel_safe: ExcelSafeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Try again what may pass now: unclear rows are looked up, refused and unsent ones become a batch of their own."""
    from worker.commands import retry
    from worker.commands.sending import ReportOptions

    options = ReportOptions(reports, lang, excel_safe)
    leave(
        with_notifications(
            lambda services, screen: retry.retry(
                services, batch, screen, options, workers=workers, no_workers=no_workers
            )
        ),
        json_output=json_output,
        lang=lang,
    )


@commands.command(
    epilog="Examples:  onboard resolve  ·  onboard resolve 12 301 --created src_01  ·  onboard resolve 12 301 --absent"
)
def resolve(
    batch: Annotated[int | None, typer.Argument(help="Number of the batch.", show_default=False)] = None,
    line: Annotated[
        int | None, typer.Argument(help="Line of the row in its file; any line of its record.", show_default=False)
    ] = None,
    created: Annotated[str | None, typer.Option(help="The source exists: its id.", show_default=False)] = None,
    absent: Annotated[bool, typer.Option("--absent", help="There is no source: send the row again.")] = False,
    give_up: Annotated[bool, typer.Option("--give-up", help="Leave the row as it is.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Write the list to a file in which decisions are filled in.", show_default=False)
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Take the decisions of that file.", show_default=False)
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """List the unclear rows that wait for a person, or settle one of them, or many by a file."""
    from worker.commands import bulk_resolve, rows

    single = line is not None or created is not None or absent or give_up
    if (csv is not None) + (from_file is not None) + single > 1 or (from_file is not None and batch is not None):
        apart = Sentence("--csv FILE writes a list, --from FILE takes its decisions: each by itself")
        fail(apart, json_output=json_output)
    if csv is not None:
        path = csv
        leave(
            lambda services, screen: bulk_resolve.write_unclear(services, batch, screen, path=path),
            json_output=json_output,
        )
    if from_file is not None:
        path = from_file
        leave(lambda services, screen: bulk_resolve.resolve_from(services, screen, path=path), json_output=json_output)
    leave(
        lambda services, screen: rows.resolve(
            services, batch, line, screen, created=created, absent=absent, give_up=give_up
        ),
        json_output=json_output,
    )


@commands.command(epilog="Example:  onboard show 12 301")
def show(
    batch: BatchArgument,
    line: Annotated[int, typer.Argument(help="Line of the row in its file; any line of its record.")],
    json_output: JsonOption = False,
) -> None:
    """Show one row and everything that happened to it."""
    from worker.commands import rows

    leave(lambda services, screen: rows.show(services, batch, line, screen), json_output=json_output)

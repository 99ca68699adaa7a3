"""`onboard status`, `report`, `follow-up`, `audit`: how batches and their sources stand."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.error_texts import Sentence
from worker.cli.command_runner import fail, leave
from worker.cli.options import BatchArgument, ExcelSafeOption, JsonOption, LangOption, ReportsOption

commands = typer.Typer()


@commands.command()
def status(
    batch: Annotated[int | None, typer.Argument(help="Number of one batch.", show_default=False)] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every 2 s, until Ctrl-C or the end of the batch.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """List the newest batches, or show where the rows of one stand."""
    from worker.commands import status

    show = status.watch if watch else status.status
    leave(lambda services, screen: show(services, batch, screen), json_output=json_output)


@commands.command(epilog="Examples:  onboard report 12  ·  onboard report follow-up --days 3")
def report(
    batch: Annotated[str, typer.Argument(help="Number of the batch, or the word follow-up.", metavar="BATCH")],
    reports: ReportsOption = None,
    lang: LangOption = None,
    excel_safe: ExcelSafeOption = False,
    days: Annotated[
        float | None,
        typer.Option(help="follow-up: pending for so long; default: ONBOARD_PENDING_DAYS.", min=0, show_default=False),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write the reports of a batch again, as it stands now; or list the sources that pend for long or have ended."""
    from worker.commands import follow_up, status

    if batch == "follow-up":
        leave(
            lambda services, screen: follow_up.report_follow_up(services, reports, screen, days=days, lang=lang),
            json_output=json_output,
            lang=lang,
        )
    if not (batch.isascii() and batch.isdigit()):
        fail(Sentence("{batch!r} is neither the number of a batch nor follow-up", batch=batch), json_output=json_output)
    leave(
        lambda services, screen: status.report(services, int(batch), reports, screen, lang=lang, excel_safe=excel_safe),
        json_output=json_output,
        lang=lang,
    )


@commands.command("follow-up")
def follow_up(json_output: JsonOption = False) -> None:
    """Ask elepay what became of the pending sources that are due, within ONBOARD_FOLLOW_UP_SHARE of the limit."""
    from worker.commands import follow_up

    leave(follow_up.follow_up, json_output=json_output)


@commands.command()
def audit(
    batch: BatchArgument,
    reports: ReportsOption = None,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare every row of a batch with what elepay lists; write audit.csv. Exits with 1 if they do not agree."""
    from worker.commands import audit

    leave(
        lambda services, screen: audit.audit(services, batch, reports, screen, lang=lang),
        json_output=json_output,
        lang=lang,
    )

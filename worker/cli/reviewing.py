"""`onboard open`, `dismiss`, `find`: the morning's work over all batches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.command_runner import leave
from worker.cli.options import BatchArgument, JsonOption, LangOption

commands = typer.Typer()


@commands.command("open", epilog="Examples:  onboard open  ·  onboard open 12  ·  onboard open --csv open.csv")
def list_open(
    batch: Annotated[int | None, typer.Argument(help="Number of one batch.", show_default=False)] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Write the rows to a file that can be corrected and run.", show_default=False),
    ] = None,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """List what needs a person over all batches, each row once, by what one action solves."""
    from worker.commands import open_work

    leave(
        lambda services, screen: open_work.list_open(services, batch, screen, csv=csv),
        json_output=json_output,
        lang=lang,
    )


@commands.command(epilog="Example:  onboard dismiss 12 301 305 --reason 'the customer has left'")
def dismiss(
    batch: BatchArgument,
    lines: Annotated[list[int], typer.Argument(help="Lines of the rows in their file.")],
    reason: Annotated[str | None, typer.Option(help="Why nothing is to be done.", show_default=False)] = None,
    undo: Annotated[bool, typer.Option("--undo", help="The rows need a person again.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Set rows aside that need a person; they stay visible as dismissed."""
    from worker.commands import open_work

    leave(
        lambda services, screen: open_work.dismiss(services, batch, tuple(lines), screen, reason=reason, undo=undo),
        json_output=json_output,
    )


@commands.command(epilog="Examples:  onboard find cus_0123  ·  onboard find src_0123")
def find(
    wanted: Annotated[
        str, typer.Argument(help="A customer id, a source id or a reference.", metavar="CUSTOMER|SOURCE|REFERENCE")
    ],
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show every row of every batch that is about a customer, a source or a reference."""
    from worker.commands import open_work

    leave(lambda services, screen: open_work.find(services, wanted, screen), json_output=json_output, lang=lang)

"""`onboard doctor` and `onboard ledger`: what everything else needs."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.command_runner import leave
from worker.cli.options import JsonOption

commands = typer.Typer()
ledger = typer.Typer(help="Look after the ledger.", no_args_is_help=True)


@commands.command()
def doctor(
    notify: Annotated[bool, typer.Option("--notify", help="Send a test message through every channel.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Look at everything that a run needs, from the settings to the disk; say what to do about what is wrong."""
    from worker.commands import doctor

    leave(lambda services, screen: doctor.doctor(services, screen, notify=notify), json_output=json_output)


@ledger.command()
def create(json_output: JsonOption = False) -> None:
    """Make the ledger of a new installation (in test mode the first command does it by itself).

    Where there was a ledger, restore it instead: an empty one does not know which sources exist.
    """
    from worker.commands import ledger

    leave(ledger.create_ledger, json_output=json_output)


@ledger.command()
def accept(json_output: JsonOption = False) -> None:
    """Go on with a ledger that is older than before, or another one: what it has not sent is looked up at elepay first.

    Stop workers, watchers and beat before, and set ONBOARD_VERIFY_FIRST=1 for the nights to come.
    """
    from worker.commands import ledger

    leave(ledger.accept_ledger, json_output=json_output)


@ledger.command()
def upgrade(json_output: JsonOption = False) -> None:
    """Bring the ledger up to the version that this program needs (make a backup first)."""
    from worker.commands import ledger

    leave(ledger.upgrade_ledger, json_output=json_output)


@ledger.command()
def tidy(json_output: JsonOption = False) -> None:
    """Drop file, reports and personal data of batches that ended more than ONBOARD_KEEP_DAYS ago."""
    from worker.commands import ledger

    leave(ledger.tidy, json_output=json_output)

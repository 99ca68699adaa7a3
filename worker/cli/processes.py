"""`onboard beat`, `worker`, `watch`: processes that work until they are stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.gc_tuning import collect_from_now_on
from worker.cli.command_runner import fail, leave, set_window, with_notifications
from worker.cli.options import (
    ExcelSafeOption,
    JsonOption,
    LangOption,
    MappingOption,
    NotBeforeOption,
    NoWorkersOption,
    UntilOption,
    VerifyFirstOption,
    WorkersOption,
)

commands = typer.Typer()


@commands.command()
def beat() -> None:
    """Be the clock of a fleet: send its workers what is scheduled (follow-up, tidying), until stopped."""
    from tasks.errors import OnboardingError
    from tasks.settings import load_settings

    try:
        from worker.beat import beat as run_beat

        collect_from_now_on()
        code = run_beat(load_settings())
    except OnboardingError as error:
        fail(error.sentence)
    raise typer.Exit(code)


@commands.command()
def worker(
    name: Annotated[str, typer.Option(help="A name that no other worker on this machine has.")] = "1",
    not_before: NotBeforeOption = None,
    until: UntilOption = None,
) -> None:
    """Work for the fleet: take slices from Redis and send them, until stopped."""
    from tasks.errors import OnboardingError

    set_window(not_before, until)
    try:
        from worker.worker_process import work

        code = work(name)
    except OnboardingError as error:
        fail(error.sentence)
    raise typer.Exit(code)


@commands.command(epilog="Examples:  onboard watch  ·  onboard watch --once /srv/drop  ·  onboard watch --no-workers")
def watch(
    folder: Annotated[
        Path | None, typer.Argument(help="The drop folder; default: ONBOARD_DROP_FOLDER.", show_default=False)
    ] = None,
    workers: WorkersOption = None,
    no_workers: NoWorkersOption = False,
    mapping: MappingOption = None,
    lang: LangOption = None,
    canary: Annotated[
        int | None,
        typer.Option(
            help="Send so many rows of each file, then wait for `onboard approve`.", min=0, show_default=False
        ),
    ] = None,
    verify_first: VerifyFirstOption = False,
    excel_safe: ExcelSafeOption = False,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is there, and end when all of it is finished.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Onboard every file that is dropped into FOLDER/inbox; file and reports end in archive, outbox or rejected."""
    from worker.watcher import command
    from worker.watcher.watcher import Options

    options = Options(
        folder=folder,
        workers=workers,
        no_workers=no_workers,
        mapping=mapping,
        canary=canary,
        verify_first=verify_first,
        lang=lang,
        excel_safe=excel_safe,
        once=once,
    )
    leave(
        with_notifications(lambda services, screen: command.watch(services, options, screen), digests=not once),
        json_output=json_output,
        lang=lang,
    )

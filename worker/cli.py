"""The commands people type.

Exit codes: 0 every row is created or skipped, 1 finished with rows to look at, 2 unusable input or settings,
3 halted, paused or interrupted: nothing is lost, `onboard resume` goes on; 70 not enough memory, or a fault of the
program: nothing is lost.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tasks.gc_tuning import collect_from_now_on
from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY, is_too_small, save_address_space
from worker.failures import failure_of, require_free_port, take_any_text

if TYPE_CHECKING:
    from tasks.services import Services
    from tasks.settings import Settings

ALL_DONE, NEED_A_PERSON, UNUSABLE, STOPPED = 0, 1, 2, 3

app = typer.Typer(
    name="onboard",
    help="A CSV of customers in, one elepay payment source per row out, exactly once, reconciled reports back.",
    epilog="Exit codes: 0 all rows created or skipped · 1 rows to look at · 2 unusable input or settings ·"
    " 3 halted, paused or interrupted · 70 not enough memory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _known_language(lang: str | None) -> str | None:
    if lang not in (None, "en", "ja"):
        raise typer.BadParameter(f"{lang!r} is no language of this program: en or ja")
    return lang


FileArgument = Annotated[Path, typer.Argument(help="The CSV file.", show_default=False)]
BatchArgument = Annotated[int, typer.Argument(help="Number of the batch; `onboard status` lists them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last on standard output.")]
MappingOption = Annotated[Path | None, typer.Option(help="TOML file with more column titles.", show_default=False)]
NotBeforeOption = Annotated[
    str | None, typer.Option(help="HH:MM; nothing is sent before, day by day.", show_default=False)
]
LangOption = Annotated[
    str | None,
    typer.Option(help="Language of reasons and reports: en or ja.", show_default=False, callback=_known_language),
]


@app.command(
    epilog="Examples:  onboard run customers.csv  ·  onboard run --json customers.csv  ·  REDIS_URL=redis://cache/0"
    " onboard run --no-workers customers.csv"
)
def run(
    file: FileArgument,
    reports: Annotated[Path | None, typer.Option(help="Folder for the reports.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: ONBOARD_WORKERS.", min=1)] = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Leave the sending to the fleet's workers.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Create one more source for identities that have one.")
    ] = False,
    verify_first: Annotated[
        bool, typer.Option("--verify-first", help="Look every row up at elepay before it is sent: the ledger was lost.")
    ] = False,
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
    excel_safe: Annotated[bool, typer.Option("--excel-safe", help="Also write CSV copies safe for Excel.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Create one source per row of FILE, and write the reports.

    The same command again goes on where an interrupted run stopped.
    """
    from worker.commands import run

    if not_before is not None and no_workers:
        _fail("--not-before is for the workers of this command; a fleet keeps to ONBOARD_NOT_BEFORE and ONBOARD_UNTIL")
    if not_before is not None:
        _set_window(not_before, until)
        until = None
    options = run.Options(
        file=file,
        reports=reports,
        workers=workers,
        no_workers=no_workers,
        again=again,
        verify_first=verify_first,
        mapping=mapping,
        canary=canary,
        until=until,
        lang=lang,
        excel_safe=excel_safe,
    )
    _leave(_told(lambda services, console: run.run(services, options, console)), json_output=json_output, lang=lang)


@app.command(epilog="Example:  onboard check customers.csv")
def check(
    file: FileArgument,
    mapping: MappingOption = None,
    lang: LangOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask elepay which methods this key has.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Do everything but the sending: counts, all reasons, and how long the run would take."""
    from worker.commands import check

    _leave(
        lambda services, console: check.check(services, file, console, mapping=mapping, lang=lang, offline=offline),
        json_output=json_output,
        lang=lang,
    )


@app.command()
def status(
    batch: Annotated[int | None, typer.Argument(help="Number of one batch.", show_default=False)] = None,
    json_output: JsonOption = False,
) -> None:
    """List the newest batches, or show where the rows of one stand."""
    from worker.commands import status

    _leave(lambda services, console: status.status(services, batch, console), json_output=json_output)


@app.command(epilog="Examples:  onboard report 12  ·  onboard report follow-up --days 3")
def report(
    batch: Annotated[str, typer.Argument(help="Number of the batch, or the word follow-up.", metavar="BATCH")],
    reports: Annotated[Path | None, typer.Option(help="Folder for the reports.", show_default=False)] = None,
    lang: LangOption = None,
    excel_safe: Annotated[bool, typer.Option("--excel-safe", help="Also write CSV copies safe for Excel.")] = False,
    days: Annotated[
        float | None,
        typer.Option(help="follow-up: pending for so long; default: ONBOARD_PENDING_DAYS.", min=0, show_default=False),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write the reports of a batch again, as it stands now; or list the sources that pend for long or have ended."""
    from worker.commands import follow_up, status

    if batch == "follow-up":
        _leave(
            lambda services, console: follow_up.report_follow_up(services, reports, console, days=days, lang=lang),
            json_output=json_output,
        )
    if not (batch.isascii() and batch.isdigit()):
        _fail(f"{batch!r} is neither the number of a batch nor follow-up", json_output=json_output)
    _leave(
        lambda services, console: status.report(
            services, int(batch), reports, console, lang=lang, excel_safe=excel_safe
        ),
        json_output=json_output,
    )


@app.command("follow-up")
def follow_up(json_output: JsonOption = False) -> None:
    """Ask elepay what became of the pending sources that are due, within ONBOARD_FOLLOW_UP_SHARE of the limit."""
    from worker.commands import follow_up

    _leave(follow_up.follow_up, json_output=json_output)


@app.command()
def audit(
    batch: BatchArgument,
    reports: Annotated[Path | None, typer.Option(help="Folder for the reports.", show_default=False)] = None,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare every row of a batch with what elepay lists; write audit.csv. Exits with 1 if they do not agree."""
    from worker.commands import audit

    _leave(lambda services, console: audit.audit(services, batch, reports, console, lang=lang), json_output=json_output)


@app.command()
def pause(batch: BatchArgument, json_output: JsonOption = False) -> None:
    """Send nothing more of a batch until it is resumed."""
    from worker.commands import batch_decisions

    _leave(lambda services, console: batch_decisions.pause(services, batch, console), json_output=json_output)


@app.command()
def resume(
    batch: BatchArgument,
    not_before: Annotated[
        str | None, typer.Option(help="HH:MM; with --until: its nightly window from now on.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="HH:MM; nothing is sent from then on.", show_default=False)] = None,
    at_any_time: Annotated[bool, typer.Option("--at-any-time", help="Take its nightly window away.")] = False,
    verify_first: Annotated[
        bool, typer.Option("--verify-first", help="Look each row up at elepay before it is sent: the ledger was lost.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Let a stopped batch go on: with the fleet or the watcher that is at work here, else in this command, to its end.

    A batch keeps the nightly window that it was brought with; only these options change it.
    """
    from worker.commands.batch_decisions import NewWindow, resume

    window = NewWindow(not_before, until, at_any_time)
    _leave(
        _told(lambda services, console: resume(services, batch, window, console, verify_first=verify_first)),
        json_output=json_output,
    )


@app.command()
def approve(batch: BatchArgument, json_output: JsonOption = False) -> None:
    """Let the rest of a batch run after its canary rows, as `onboard resume` does."""
    from worker.commands import batch_decisions

    _leave(_told(lambda services, console: batch_decisions.approve(services, batch, console)), json_output=json_output)


@app.command()
def cancel(batch: BatchArgument, json_output: JsonOption = False) -> None:
    """Give a batch up: what was not sent never is (another file may bring it again)."""
    from worker.commands import batch_decisions

    _leave(lambda services, console: batch_decisions.cancel(services, batch, console), json_output=json_output)


@app.command(epilog="Example:  onboard retry 12")
def retry(
    batch: BatchArgument,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: ONBOARD_WORKERS.", min=1)] = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Leave the sending to the fleet's workers.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Try again what may pass now: unclear rows are looked up, refused and unsent ones become a batch of their own."""
    from worker.commands import retry

    _leave(
        _told(lambda services, console: retry.retry(services, batch, console, workers=workers, no_workers=no_workers)),
        json_output=json_output,
    )


@app.command(
    epilog="Examples:  onboard resolve  ·  onboard resolve 12 301 --created src_01  ·  onboard resolve 12 301 --absent"
)
def resolve(
    batch: Annotated[int | None, typer.Argument(help="Number of the batch.", show_default=False)] = None,
    line: Annotated[int | None, typer.Argument(help="Line of the row in its file.", show_default=False)] = None,
    created: Annotated[str | None, typer.Option(help="The source exists: its id.", show_default=False)] = None,
    absent: Annotated[bool, typer.Option("--absent", help="There is no source: send the row again.")] = False,
    give_up: Annotated[bool, typer.Option("--give-up", help="Leave the row as it is.")] = False,
    json_output: JsonOption = False,
) -> None:
    """List the unclear rows that wait for a person, or settle one of them."""
    from worker.commands import rows

    _leave(
        lambda services, console: rows.resolve(
            services, batch, line, console, created=created, absent=absent, give_up=give_up
        ),
        json_output=json_output,
    )


@app.command(epilog="Example:  onboard show 12 301")
def show(
    batch: BatchArgument,
    line: Annotated[int, typer.Argument(help="Line of the row in its file.")],
    json_output: JsonOption = False,
) -> None:
    """Show one row and everything that happened to it."""
    from worker.commands import rows

    _leave(lambda services, console: rows.show(services, batch, line, console), json_output=json_output)


@app.command()
def doctor(
    notify: Annotated[bool, typer.Option("--notify", help="Send a test message through every channel.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Look at everything that a run needs, from the settings to the disk; say what to do about what is wrong."""
    from worker.commands import doctor

    _leave(lambda services, console: doctor.doctor(services, console, notify=notify), json_output=json_output)


ledger_commands = typer.Typer(help="Look after the ledger.", no_args_is_help=True)
app.add_typer(ledger_commands, name="ledger")


@ledger_commands.command()
def create(json_output: JsonOption = False) -> None:
    """Make the ledger of a new installation (in test mode the first command does it by itself).

    Where there was a ledger, restore it instead: an empty one does not know which sources exist.
    """
    from worker.commands import ledger

    _leave(ledger.create_ledger, json_output=json_output)


@ledger_commands.command()
def accept(json_output: JsonOption = False) -> None:
    """Go on with a ledger that is older than before, or another one: what it has not sent is looked up at elepay first.

    Stop workers, watchers and beat before, and set ONBOARD_VERIFY_FIRST=1 for the nights to come.
    """
    from worker.commands import ledger

    _leave(ledger.accept_ledger, json_output=json_output)


@ledger_commands.command()
def upgrade(json_output: JsonOption = False) -> None:
    """Bring the ledger up to the version that this program needs (make a backup first)."""
    from worker.commands import ledger

    _leave(ledger.upgrade_ledger, json_output=json_output)


@ledger_commands.command()
def tidy(json_output: JsonOption = False) -> None:
    """Drop file, reports and personal data of batches that ended more than ONBOARD_KEEP_DAYS ago."""
    from worker.commands import ledger

    _leave(ledger.tidy, json_output=json_output)


@app.command()
def beat() -> None:
    """Be the clock of a fleet: tell its workers when to follow up and to tidy, until told to stop."""
    from tasks.errors import OnboardingError
    from tasks.settings import load_settings

    try:
        from worker.beat import beat as run_beat

        collect_from_now_on()
        code = run_beat(load_settings())
    except OnboardingError as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command()
def worker(
    name: Annotated[str, typer.Option(help="A name that no other worker on this machine has.")] = "1",
    not_before: NotBeforeOption = None,
    until: Annotated[str | None, typer.Option(help="HH:MM; nothing is sent from then on.", show_default=False)] = None,
) -> None:
    """Work for the fleet: take slices from Redis and send them, until told to stop."""
    from tasks.errors import OnboardingError

    _set_window(not_before, until)
    try:
        from worker.worker_process import work

        code = work(name)
    except OnboardingError as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command(epilog="Examples:  onboard watch  ·  onboard watch --once /srv/drop  ·  onboard watch --no-workers")
def watch(
    folder: Annotated[
        Path | None, typer.Argument(help="The drop folder; default: ONBOARD_DROP_FOLDER.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: ONBOARD_WORKERS.", min=1)] = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Leave the sending to the fleet's workers.")] = False,
    mapping: MappingOption = None,
    lang: LangOption = None,
    canary: Annotated[
        int | None,
        typer.Option(
            help="Send so many rows of each file, then wait for `onboard approve`.", min=0, show_default=False
        ),
    ] = None,
    verify_first: Annotated[
        bool, typer.Option("--verify-first", help="Look every row up at elepay before it is sent: the ledger was lost.")
    ] = False,
    excel_safe: Annotated[bool, typer.Option("--excel-safe", help="Also write CSV copies safe for Excel.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is there, and end when all of it is finished.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Onboard every file that is dropped into FOLDER/inbox; file and reports end in archive, outbox or rejected."""
    from worker import watcher

    options = watcher.Options(
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
    _leave(
        _told(lambda services, console: watcher.watch(services, options, console)), json_output=json_output, lang=lang
    )


@app.command(
    epilog="Examples:  onboard rehearse customers.csv  ·  onboard rehearse --profile clean --lang ja customers.csv"
)
def rehearse(
    file: FileArgument,
    profile: Annotated[str, typer.Option(help="Name of a profile of the simulator, or a TOML file.")] = "rough_night",
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
    reports: Annotated[Path | None, typer.Option(help="Folder for the reports.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: ONBOARD_WORKERS.", min=1)] = None,
    mapping: MappingOption = None,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Rehearse FILE from reading to reports, against the simulator and with a ledger of its own.

    Whatever the settings say, neither elepay nor your ledger, Redis or channels are reached.
    """
    from tasks.settings import Settings
    from worker.commands import rehearse

    options = rehearse.Options(
        file=file, profile=profile, seed=seed, reports=reports, workers=workers, mapping=mapping, lang=lang
    )
    _leave(
        lambda _, console: rehearse.rehearse(options, console, json_output=json_output),
        json_output=json_output,
        settings_from=Settings,
    )


@app.command(epilog="Example:  onboard simulator --port 8130 --profile rough_night --seed 7")
def simulator(
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8130,
    host: Annotated[
        str, typer.Option(help="Loopback; 0.0.0.0 inside of a container only: whoever reaches it reads and turns all.")
    ] = "127.0.0.1",
    profile: Annotated[str, typer.Option(help="Name of a profile, or a TOML file.")] = "clean",
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
) -> None:
    """Serve elepay on localhost with its faults, to rehearse a file before the live run."""
    try:
        from simulator.server import serve
    except ImportError:
        _fail("the simulator needs the extra `simulator`: pip install 'elepay-onboarding[simulator]'")
    collect_from_now_on()
    try:
        require_free_port(host, port)
        serve(host=host, port=port, profile=profile, seed=seed)
    except (ValueError, OSError) as error:
        _fail(failure_of(error).message if isinstance(error, OSError) else str(error))


def _set_window(not_before: str | None, until: str | None) -> None:
    """Put options in the place of their settings, for this process and those that it starts."""
    for name, value in (("ONBOARD_NOT_BEFORE", not_before), ("ONBOARD_UNTIL", until)):
        if value is not None:
            os.environ[name] = value


def _told(command: Any) -> Any:
    """Tell people what happens while a command runs, if there is a channel."""

    def run_and_tell(services: Services, console: Any) -> Any:
        from worker.notifier import telling

        with telling(services):
            return command(services, console)

    return run_and_tell


def _leave(
    command: Any, *, json_output: bool, lang: str | None = None, settings_from: Callable[[], Settings] | None = None
) -> NoReturn:
    """Run a command between settings and exit code; the only place where errors become sentences.

    `settings_from` is for a command that does without those of this installation.
    """
    from rich.console import Console

    from tasks import reason_texts
    from tasks.errors import UnusableFile
    from tasks.services import Services
    from tasks.settings import load_settings
    from worker import logs
    from worker.interrupts import Interrupts

    console = Console(stderr=json_output, highlight=False)
    try:
        settings = (settings_from or load_settings)()
        logs.configure(settings.log_level)
        services: Services = Services(settings)
        collect_from_now_on()
        with Interrupts():
            code, result = command(services, console)
    except UnusableFile as error:
        message, hint = reason_texts.explain_file(error, lang or settings.lang)
        _fail(message, hint=hint, code=error.code, line=error.line, json_output=json_output)
    except KeyboardInterrupt:
        _fail("interrupted", code="interrupted", exit_code=STOPPED, json_output=json_output)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a door: whatever it is, a person gets a sentence
        _fail_by(error, json_output=json_output)
    if json_output:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, default=str) + "\n")
    raise typer.Exit(code)


def _fail(
    message: str,
    *,
    hint: str = "",
    code: str = "",
    line: int | None = None,
    exit_code: int = UNUSABLE,
    json_output: bool = False,
) -> NoReturn:
    where = f"line {line}: " if line and str(line) not in message else ""
    typer.echo(f"onboard: {where}{message}" + (f"\n         {hint}" if hint else ""), err=True)
    if json_output:
        verdict = {"verdict": "unusable", "error": {"code": code, "message": message, "line": line, "hint": hint}}
        typer.echo(json.dumps(verdict, ensure_ascii=False))
    raise typer.Exit(exit_code)


def main() -> None:
    """Run the command line (the console script `onboard`)."""
    save_address_space()
    take_any_text()
    if is_too_small():
        _say_no_memory()
    gc.disable()  # until everything is loaded: `collect_from_now_on`
    try:
        app(prog_name="onboard")
    except BrokenPipeError:  # `onboard status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(ALL_DONE) from None
    except Exception as error:  # noqa: BLE001 - what no command has explained
        try:
            _fail_by(error, json_output="--json" in sys.argv)
        except typer.Exit as end:
            raise SystemExit(end.exit_code) from None


def _fail_by(error: Exception, *, json_output: bool) -> NoReturn:
    message, code, exit_code = failure_of(error)
    _fail(message, code=code, exit_code=exit_code, json_output=json_output)


def _say_no_memory() -> NoReturn:
    sys.stderr.write(f"onboard: {NO_MEMORY}\n")
    raise SystemExit(OUT_OF_MEMORY) from None


if __name__ == "__main__":
    main()

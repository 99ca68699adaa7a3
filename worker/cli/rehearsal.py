"""`onboard rehearse`, `demo` and `simulator`: elepay on localhost."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.error_texts import Sentence, Words
from tasks.gc_tuning import collect_from_now_on
from worker.cli.command_runner import fail, leave
from worker.cli.options import FileArgument, JsonOption, LangOption, MappingOption, ReportsOption, WorkersOption
from worker.failures import failure_of, require_free_port

commands = typer.Typer()


def _profiles() -> list[str]:
    """Return the names of the bundled profiles, for a shell that completes."""
    from simulator.profile import profile_names

    return profile_names()


@commands.command(
    epilog="Examples:  onboard rehearse customers.csv  ·  onboard rehearse --profile clean --lang ja customers.csv"
)
def rehearse(
    file: FileArgument,
    profile: Annotated[
        str, typer.Option(help="Name of a profile of the simulator, or a TOML file.", autocompletion=_profiles)
    ] = "rough_night",
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
    reports: ReportsOption = None,
    workers: WorkersOption = None,
    mapping: MappingOption = None,
    lang: LangOption = None,
    json_output: JsonOption = False,
) -> None:
    """Rehearse FILE from reading to reports, against the simulator and with a ledger of its own.

    Whatever the settings say, neither elepay nor your ledger, Redis or channels are reached.
    """
    from worker.commands import rehearse

    options = rehearse.Options(
        file=file, profile=profile, seed=seed, reports=reports, workers=workers, mapping=mapping, lang=lang
    )
    leave(
        lambda _, screen: rehearse.rehearse(options, screen, json_output=json_output),
        json_output=json_output,
        lang=lang,
        settings_from=rehearse.defaults,
    )


@commands.command(epilog="Example:  onboard demo --lang ja")
def demo(lang: LangOption = None) -> None:
    """Rehearse a sample file of a thousand customers on a rough night: throttling, lost answers, refusals.

    Takes half a minute. Neither elepay nor an installation of yours is reached.
    """
    from worker.commands import demo, rehearse

    leave(lambda _, screen: (demo.demo(screen), {}), json_output=False, lang=lang, settings_from=rehearse.defaults)


@commands.command(epilog="Example:  onboard simulator --port 8130 --profile rough_night --seed 7")
def simulator(
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8130,
    host: Annotated[
        str, typer.Option(help="Loopback; 0.0.0.0 inside of a container only: whoever reaches it reads and turns all.")
    ] = "127.0.0.1",
    profile: Annotated[
        str, typer.Option(help="Name of a profile, or a TOML file.", autocompletion=_profiles)
    ] = "clean",
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
) -> None:
    """Serve elepay on localhost with its faults, to rehearse a file before the live run."""
    try:
        from simulator.server import serve
    except ImportError:
        fail(Sentence("the simulator needs the extra `simulator`: pip install 'elepay-onboarding[simulator]'"))
    collect_from_now_on()
    try:
        require_free_port(host, port)
        serve(host=host, port=port, profile=profile, seed=seed)
    except (ValueError, OSError) as error:
        fail(failure_of(error).message if isinstance(error, OSError) else Words(error))

"""`onboard rehearse`: a run from file to reports against the simulator, which leaves no trace in the real installation.

The run is a process of its own. It works in a new folder, so that it reads no `.env`, and its environment holds only
those settings that say how a file is read: it knows no key, ledger, Redis, channel or port of the real installation.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tasks.error_texts import Words
from tasks.errors import SettingsError
from tasks.models import BatchState
from tasks.reason_texts import LANGUAGES
from tasks.services import Services
from tasks.settings import Settings, given_settings, load_settings, without_settings
from worker.embedded_redis import die_with_parent
from worker.interrupts import STOPPED
from worker.screen import Screen
from worker.worker_pool import PARENT, REHEARSAL, RUNNER

#: The settings that a rehearsal takes over: how a file is read and reported. All others have their defaults.
KEPT = (
    "ONBOARD_ENCODINGS",
    "ONBOARD_EXTRA_PAYMENT_METHODS",
    "ONBOARD_EXTRA_RESOURCES",
    "ONBOARD_MAX_INVALID_SHARE",
    "ONBOARD_REQUIRE_VALID_ROW",
    "ONBOARD_TIME_ZONE",
    "ONBOARD_LANG",
    "ONBOARD_LOG_LEVEL",
    "ONBOARD_WORKERS",
)
#: What else must not be inherited: Celery believes its own variables more than the settings.
_NOT_INHERITED = ("CELERY_", PARENT, RUNNER)
#: As fast as a rehearsal sends: twice as much as the profile `rough_night` takes.
REQUESTS_PER_SECOND = 300


@dataclass(frozen=True, slots=True)
class Options:
    """What was given to `onboard rehearse`."""

    file: Path
    profile: str = "rough_night"
    seed: int = 1
    workers: int | None = None
    mapping: Path | None = None
    lang: str | None = None
    reports: Path | None = None


class Ran(NamedTuple):
    """How the run ended."""

    code: int
    result: dict[str, Any]  #: what it printed with `--json`; nothing without
    interrupted: bool  #: by a person: there are no reports


def rehearse(options: Options, screen: Screen, *, json_output: bool = False) -> tuple[int, dict[str, Any]]:
    """Rehearse a file; return the exit code and what `--json` prints.

    1. make a temporary folder for everything
    2. start the simulator on a free port of the loopback
    3. run `onboard run` there, with a key, a ledger and a Valkey of its own, to its end or Ctrl-C
    4. compare its counts with what the simulator counted; the exit code is 1 at least if they do not agree

    The folder stays if the file was accepted and nobody interrupted the run. Raises SettingsError if the simulator
    cannot be started, or if a setting is malformed that is taken over.
    """
    kept = given_settings(KEPT)
    home = Path(tempfile.mkdtemp(prefix="onboard-rehearsal-"))
    stays = False
    try:
        with _simulator(options, home / "simulator.log") as url:
            environment = _environment(kept, url, home)
            services = Services(load_settings(environment, folder=home))
            screen.say("rehearsal", profile=options.profile, seed=str(options.seed))
            ran = _run(options, environment, home, json_output=json_output)
            stays = not ran.interrupted and _is_accepted(services)
            if not stays:
                return ran.code, ran.result
            compared = _compare(services, _get(f"{url}/_sim/statistics"))
    finally:
        if not stays:
            shutil.rmtree(home, ignore_errors=True)
    _print(screen, compared, options.profile, home, url)
    result = {**ran.result, "rehearsal": {"folder": str(home), **compared}}
    return (ran.code if compared["agree"] else max(ran.code, 1)), result


@contextlib.contextmanager
def _simulator(options: Options, log: Path) -> Iterator[str]:
    """Have a simulator; yields its address. Raises SettingsError with what it says if it does not start."""
    words = ["--port", "0", "--profile", options.profile, "--seed", str(options.seed)]
    with log.open("wb") as errors:
        process = _start(["simulator", *words], without_settings(os.environ), stdout=subprocess.PIPE, stderr=errors)
    try:
        said = process.stdout.readline() if process.stdout else ""
        url = next((word for word in said.split() if word.startswith("http://")), None)
        if url is None:
            process.wait()
            raise SettingsError(Words(log.read_text(errors="replace").strip().removeprefix("onboard: ")))
        yield url
    finally:
        process.terminate()
        process.wait()


def _environment(kept: Mapping[str, str], url: str, home: Path) -> dict[str, str]:
    """Return everything that the run knows: what is kept, what is the rehearsal's own, and no other setting.

    Unclear rows are looked up as soon as this simulator's lists surely show them, and not as late as elepay's might.
    """
    knobs = _get(f"{url}/_sim/control")
    behind_seconds = (knobs["visibility_lag_ms"] + max(knobs["replica_lags_ms"], default=0)) / 1000
    inherited = {
        name: value for name, value in without_settings(os.environ).items() if not name.startswith(_NOT_INHERITED)
    }
    return {
        **inherited,
        **kept,
        "ELEPAY_MODE": "test",
        "ELEPAY_SECRET_KEY": "sk_test_rehearsal",
        "ELEPAY_BASE_URL": url,
        "ELEPAY_REQUESTS_PER_SECOND": str(REQUESTS_PER_SECOND),
        "ONBOARD_HOME": str(home),
        "ONBOARD_LOOK_UP_DELAY_SECONDS": str(max(1.0, knobs["late_commit_seconds"], behind_seconds)),
        "ONBOARD_LIST_LAG_SECONDS": str(behind_seconds + 2),
        REHEARSAL: "1",
    }


def _run(options: Options, environment: Mapping[str, str], home: Path, *, json_output: bool) -> Ran:
    """Run `onboard run` in the rehearsal's folder to its end; what interrupts this process interrupts the run."""
    words = ["run", *(["--json"] if json_output else [])]
    words += [] if options.workers is None else ["--workers", str(options.workers)]
    words += [] if options.lang is None else ["--lang", options.lang]
    words += [] if options.mapping is None else ["--mapping", str(options.mapping.absolute())]
    words += [] if options.reports is None else ["--reports", str(options.reports.absolute())]
    process = _start(
        [*words, "--", str(options.file.absolute())],
        environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if json_output else None,
    )
    with _passed_on(process) as signals:
        said, _ = process.communicate()
    if process.returncode < 0:  # by a signal that came before the run could take it
        raise KeyboardInterrupt
    result: dict[str, Any] = json.loads(said.splitlines()[-1]) if said else {}
    return Ran(process.returncode, result, interrupted=bool(signals) and process.returncode == STOPPED)


def _start(words: Sequence[str], environment: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
    """Start a command of ours that ends with this process and that Ctrl-C does not reach by itself."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.cli", *words],
        env=environment,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread could hold
        **more,
    )


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on to a process, which sees that it ends; yields those that came."""
    came: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        process.send_signal(number)

    woken = signal.set_wakeup_fd(-1)  # else `Interrupts` would see to the end of this process
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_accepted(services: Services) -> bool:
    """Return whether the file became a batch; asking makes no ledger."""
    made = (services.settings.home / "ledger.db").exists()
    return made and any(batch.state is not BatchState.UNUSABLE for batch in services.ledger.batches.newest())


def _compare(services: Services, counted: Mapping[str, Any]) -> dict[str, Any]:
    """Compare what the simulator counted with the ledger: each created row has one source, and there is no other."""
    counts = services.ledger.queries.counts(1)
    services.ledger.close()
    references = counted["references"]
    faults = counted["faults"]
    in_doubt = counts.unclear + counts.open
    return {
        "requests": sum(counted["requests"].values()),
        "throttled": counted["throttled"],
        "answers_lost": sum(
            number for name, number in faults.items() if "commit_then" in name or "after_commit" in name
        ),
        "references": references["total"],
        "doubled": references["doubled_count"],
        "agree": references["doubled_count"] == 0
        and counts.balance
        and counts.created <= references["total"] <= counts.created + in_doubt,
    }


def defaults() -> Settings:
    """Return the default settings, in the language that is set: what a rehearsal says is for the same reader."""
    lang = given_settings(("ONBOARD_LANG",)).get("ONBOARD_LANG")
    return Settings.model_validate({"ONBOARD_LANG": lang} if lang in LANGUAGES else {})


#: Where `onboard console` serves its pages unless told otherwise.
_CONSOLE = "http://127.0.0.1:8140"


def _print(screen: Screen, compared: Mapping[str, Any], profile: str, home: Path, url: str) -> None:
    """Print what the simulator at `url` saw, and where the rehearsal is."""
    screen.console.print()
    screen.say(
        "simulator_saw",
        requests=screen.texts("simulator_requests", count=compared["requests"]),
        throttled=compared["throttled"],
        lost=screen.texts("simulator_answers", count=compared["answers_lost"]),
    )
    screen.say("simulator_holds", count=compared["references"], doubled=compared["doubled"])
    screen.say("simulator_agrees" if compared["agree"] else "simulator_disagrees")
    screen.say("rehearsal_sent_nothing", profile=profile)
    screen.say("rehearsal_folder", folder=home)
    screen.say("rehearsal_console", folder=home, elepay=url, onboard=this_program(), address=f"{_CONSOLE}/batches/1")


def this_program() -> str:
    """Return how to call this program again: by its name, unless that is another one on the PATH, or none."""
    called, found = Path(sys.argv[0]).absolute(), shutil.which("onboard")
    if called.name != "onboard" or (found is not None and Path(found).samefile(called)):
        return "onboard"
    return shlex.quote(str(called))


def _get(url: str) -> dict[str, Any]:
    """Ask the simulator, past every proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        content: dict[str, Any] = json.load(answer)
        return content

"""What the pages tell people to type is typed here; what cannot be stands in a list, with the reason.

A page's commands run in their order, in a home of their own, as the page says it: against the simulator, with a real
Valkey, a worker and a PostgreSQL where it speaks of them. Only what a reader has to put in is put in: a key, a number.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from documents import ROOT
from factories import KEY, Command, Simulator, wait_until, write_csv
from postgres import postgres_tool
from shell_blocks import TYPED, commands_of, csv_of, faults_of

from tasks.settings import load_settings

FIRST, JA, README = "docs/start/first-file.md", "docs/ja/start.md", "README.md"
REHEARSE, SIMULATED = "docs/start/rehearse.md", "docs/reference/simulator.md"
COMMANDS, UNCLEAR = "docs/reference/commands.md", "docs/ja/night.md"
LOST, AFTER, CONTAINERS = "docs/3am/lost.md", "docs/run/follow-up-and-audit.md", "docs/run/containers.md"
INSTALL, CONTRIBUTING, DEPENDENCIES = "docs/run/install.md", "CONTRIBUTING.md", "docs/engineering/dependencies.md"
SYSTEMD, NOTIFY, SAMPLES = "docs/run/systemd.md", "docs/run/notify.md", "sample_data/README.md"

INSTALLS = "installs this program; CI and every developer have done it before this test"
DOCKER = "there is no Docker where tests run; tests/test_deployment.py checks the compose file"
MACHINE = "changes users, services and folders of a machine; tests/test_deployment.py checks the units"
WHEEL = "needs a package index; tests/integration/test_installed_package.py builds the wheel and runs what is in it"
#: What is not run, by page: by its beginning, with the reason.
NOT_RUN: dict[str, dict[str, str]] = {
    README: {
        "make demo": "a rehearsal of a thousand rows; tests/integration/test_rehearse.py runs one of fewer",
        "onboard rehearse --seed 7": "what `make demo` prints first",
        "make test": "this",
        "make install": INSTALLS,
        "source .venv": INSTALLS,
    },
    CONTRIBUTING: dict.fromkeys(["make ", ".venv/bin/python -m pytest"], "this, and what CI runs"),
    FIRST: {"make install": INSTALLS, "source .venv": INSTALLS},
    JA: {"make install": INSTALLS, "source .venv": INSTALLS},
    INSTALL: dict.fromkeys(
        ["make wheel", "pipx ", "uv tool", "uvx ", "python3 -m venv", "/opt/onboard", "onboard demo", "onboard doctor"],
        WHEEL,
    ),
    LOST: {"docker compose exec": DOCKER},
    CONTAINERS: {"docker compose": DOCKER},
    SYSTEMD: dict.fromkeys(
        [
            *("useradd", "git clone", "install ", "cd /etc", "cp /opt", "systemctl", "journalctl"),
            "set -a; .",
            "cd /var",
        ],
        MACHINE,
    ),
}
#: The same command is run for another page.
AS_ON = {REHEARSE: FIRST, SIMULATED: FIRST}


def is_run(page: str, command: str) -> bool:
    """Return whether a test here runs a command."""
    return not any(command.startswith(beginning) for beginning in NOT_RUN.get(page, ()))


def run_of(page: str) -> list[str]:
    """Return what of a page is run, in its order."""
    return [command for command in commands_of(page) if is_run(page, command)]


class Desk:
    """A person at a machine: a home, a folder, and a shell that knows `onboard`."""

    def __init__(self, folder: Path, simulator: Simulator, **settings: object) -> None:
        self.folder, self.simulator = folder, simulator
        folder.mkdir(exist_ok=True)
        self.command = Command(folder, simulator, **{"ONBOARD_WORKERS": 1, **settings})
        self.environment = self.command.environment
        self.environment |= {"HOME": str(folder), "ONBOARD_HOME": str(self.home)}
        self.environment["PATH"] = (
            f"{Path(sys.executable).parent}:{postgres_tool('pg_dump').parent}:{os.environ['PATH']}"
        )

    @property
    def home(self) -> Path:
        return self.folder / ".local" / "state" / "onboard"

    def types(self, command: str, exit_code: int = 0, says: str = "", **put_in: str) -> str:
        """Run a command with what a reader puts in (`PUT_IN`); return what it prints."""
        for name, value in put_in.items():
            command = command.replace(PUT_IN[name], value)
        done = self._onboard(command) if command.startswith("onboard ") else self._shell(command)
        assert done.returncode == exit_code, f"{command}\n{done.stdout}\n{done.stderr}"
        assert says in done.stdout + done.stderr, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def _onboard(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.command(*shlex.split(command, comments=True)[1:])

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )


#: What a reader replaces, by the name that `types` has for it.
PUT_IN = {
    "key": "/path/to/the/key",
    "port": "8130",
    "host": "db.example",
    "role": "--username onboard",
    "format": "--format custom",
    "restored": "--dbname onboard",
    "row": "1 264",
    "given_up": "1 662",
    "japanese_row": "12 301",
    "source": "src_bdcc83b3984a18c4a83a66e6",
    "japanese_source": "src_123",
    "many": "1000000",
    "makefile": "make ",
}


@pytest.fixture
def simulator(reset_simulator: Simulator) -> Simulator:
    """The one of this file, as if just started."""
    return reset_simulator


@pytest.fixture
def desk_of(tmp_path: Path, simulator: Simulator) -> Callable[..., Desk]:
    """A desk with these settings."""
    return lambda **settings: Desk(tmp_path / "desk", simulator, **settings)


# ---------------------------------------------------------------------- nothing is left out


@pytest.mark.parametrize("page", sorted(TYPED))
def test_every_command_of_a_page_is_run_or_says_why_not(page: str) -> None:
    run = set(run_of(page))
    planned = {command for name, commands in RUN.items() if name == page for command in commands}
    planned |= {command for command in run if page in AS_ON and command in RUN[AS_ON[page]]}
    assert run <= planned, "run it here, or say in NOT_RUN why not"
    assert planned <= run, "no page has it any more"
    for beginning in NOT_RUN.get(page, ()):
        assert any(command.startswith(beginning) for command in TYPED[page]), beginning


@pytest.mark.parametrize(("page", "command"), [(page, command) for page in sorted(TYPED) for command in TYPED[page]])
def test_what_a_command_names_exists(page: str, command: str) -> None:
    assert faults_of(command) == [], page


def test_there_are_pages_with_commands() -> None:
    assert len(TYPED) >= 12
    assert sum(map(len, TYPED.values())) >= 60
    assert faults_of("onboard run --nonsense x.csv")
    assert faults_of("onboard dance")
    assert faults_of("make nonsense")


# ---------------------------------------------------------------------- the first hour


@pytest.mark.parametrize(("page", "pace"), [(FIRST, "5 requests/s"), (JA, "毎秒 5")])
def test_the_first_hour(desk_of: Callable[..., Desk], page: str, pace: str) -> None:
    desk = desk_of()
    for name in ("ELEPAY_SECRET_KEY", "ELEPAY_REQUESTS_PER_SECOND"):
        del desk.environment[name]
    (desk.folder / "customers.csv").write_text(csv_of(page), "utf-8")
    (desk.folder / "key").write_text(KEY)
    check, rehearse, settings, doctor, canary, approve, cancel = run_of(page)
    rows = csv_of(page).count("\n") - 1
    desk.types(check)
    desk.types(rehearse, says="nothing was sent to elepay" if page == FIRST else "")
    assert desk.simulator.statistics()["created"] == 0
    desk.types(settings, key=str(desk.folder / "key"))
    assert pace in " ".join(desk.types(doctor).split())
    desk.types(canary, 3)
    assert desk.simulator.statistics()["created"] == 1
    shutil.copytree(desk.home, desk.folder / "before")
    desk.types(approve)
    assert desk.simulator.statistics()["created"] == rows
    shutil.rmtree(desk.home)
    (desk.folder / "before").rename(desk.home)
    desk.types(cancel)


def test_the_start_of_the_readme(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    for name in ("ELEPAY_SECRET_KEY", "ELEPAY_REQUESTS_PER_SECOND"):
        del desk.environment[name]
    (desk.folder / "key").write_text(KEY)
    settings, doctor = run_of(README)
    desk.types(settings, key=str(desk.folder / "key"))
    assert "20 requests/s" in " ".join(desk.types(doctor).split())


# ---------------------------------------------------------------------- batches and rows


def unclear_batch(desk: Desk, rows: int) -> int:
    """Return a batch whose rows wait for a person, though elepay has their sources."""
    desk.simulator.control(commit_then_drop_connection=1.0, list_500=1.0, max_faults_per_key=1000)
    said = desk.command.json("run", write_csv(desk.folder / "unclear.csv", rows))
    desk.simulator.control(commit_then_drop_connection=0.0, list_500=0.0)
    assert said["books"]["unclear"] == rows
    return int(said["batch"])


def source_of(simulator: Simulator, customer: str) -> str:
    return next(str(one["id"]) for one in simulator.sources() if one["customerId"] == customer)


def test_a_batch_is_paused_resumed_and_retried(desk_of: Callable[..., Desk], redis_url: str) -> None:
    pause, status, resume, retry, *_ = run_of(COMMANDS)
    desk = desk_of(REDIS_URL=redis_url)
    desk.simulator.control(refuse={"U003005": 1.0})
    run = desk.command.start("run", "--no-workers", write_csv(desk.folder / "clean.csv", 3))
    wait_until(lambda: [one["state"] for one in desk.command.json("status")["batches"]] == ["running"], what="it")
    desk.types(pause, says="batch 1 is paused; onboard resume 1 goes on")
    run.communicate(timeout=60)
    assert run.returncode == 3
    desk.types(status, says="clean.csv  paused")
    desk.types(resume, says="batch 1 goes on: the fleet's workers send it")
    worker = desk.command.start("worker")
    desk.command.until_finished(1)
    desk.simulator.control(refuse={})
    desk.types(retry, says="All 3 created")
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_unclear_rows_are_settled(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(ONBOARD_LOOK_UPS=1)
    commands = run_of(COMMANDS)
    created, give_up = (next(each for each in commands if option in each) for option in ("--created", "--give-up"))
    found, absent, given_up = run_of(UNCLEAR)
    batch = unclear_batch(desk, 4)
    sources = [source_of(desk.simulator, f"cus_{number:06d}") for number in (1, 2, 3, 4)]
    desk.types(created, says="line 2 of batch 1 is created", row=f"{batch} 2", source=sources[0])
    desk.types(give_up, says="line 3 of batch 1 is unclear and given up", given_up=f"{batch} 3")
    desk.types(found, japanese_row=f"{batch} 4", japanese_source=sources[2])
    desk.types(absent, 2, sources[3], japanese_row=f"{batch} 5")
    desk.types(given_up, japanese_row=f"{batch} 5")


def test_sources_are_followed_up(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(ONBOARD_FOLLOW_UP_HOURS="0.00001")
    follow_up, report = run_of(AFTER)
    assert desk.command("run", write_csv(desk.folder / "a.csv", 3)).returncode == 0
    desk.simulator.post(f"sources/{source_of(desk.simulator, 'cus_000001')}/status", status="failed")
    desk.types(follow_up, says="3 sources are due\n3 asked, 1 has another status now")
    desk.types(report, 1, "failed")


# ---------------------------------------------------------------------- backups


def test_a_ledger_is_backed_up_and_restored(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    noticed, backup, python_backup, _, aside, back, _ = run_of(LOST)
    shutil.copy(write_csv(desk.folder / "first.csv", 3), desk.folder / "customers.csv")
    assert desk.command("run", "first.csv").returncode == 0
    desk.types(backup)
    (desk.folder / "ledger.backup").unlink()
    desk.types(python_backup)
    assert desk.command("run", write_csv(desk.folder / "second.csv", 3, prefix="b_")).returncode == 0
    desk.types(aside)
    desk.types(back)
    desk.types(noticed, 2, "is older than it was")
    assert "isolderthanitwas" in "".join(desk.command("doctor").stdout.split()), "its lines are folded"
    assert desk.command("ledger", "accept").returncode == 0
    assert desk.command("run", "customers.csv").returncode == 0
    assert desk.simulator.statistics()["references"]["doubled_count"] == 0


def test_a_ledger_on_postgresql_is_backed_up_and_restored(
    desk_of: Callable[..., Desk], postgres_url: str, postgres_folder: str
) -> None:
    desk = desk_of(LEDGER_URL=postgres_url)
    dump, restore = (command for command in run_of(LOST) if command.startswith("pg_"))
    name = urlsplit(postgres_url).path.strip("/")
    place = {"host": postgres_folder.split(maxsplit=1)[0].removeprefix("host="), "role": "--username postgres"}
    assert desk.command("run", write_csv(desk.folder / "first.csv", 3)).returncode == 0
    desk.types(dump.removesuffix(" onboard"), **place, format=f"--format custom {name}")
    assert desk.command("run", write_csv(desk.folder / "second.csv", 3, prefix="b_")).returncode == 0
    desk.types(restore, restored=f"--dbname {name}", **place)
    said = desk.command("run", "first.csv")
    assert (said.returncode, "is older than it was" in said.stderr) == (2, True)


# ---------------------------------------------------------------------- the simulator, settings, files


def test_the_simulator_is_asked_and_told(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    port = desk.simulator.url.rpartition(":")[2]
    _, unknown, offline = run_of(SIMULATED)
    desk.types(unknown, says="unknown knob 'html_5'", port=port)
    (statistics,) = [command for command in run_of(CONTAINERS) if command.startswith("curl")]
    desk.types(statistics, says='"doubled_count":0', port=port)
    with Simulator() as another:
        desk.types(offline, says='{"offline_for_seconds":2}', port=another.url.rpartition(":")[2])


def test_secrets_are_made_once(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    (secrets,) = [command for command in run_of(CONTAINERS) if command.startswith("make")]
    desk.types(secrets, makefile=f"make --file {ROOT / 'Makefile'} ")
    made = {path.name: path.read_text() for path in (desk.folder / "secrets").iterdir()}
    assert sorted(made) == ["elepay_secret_key", "ledger_password", "ledger_url", "notify_urls"]
    desk.types(secrets, makefile=f"make --file {ROOT / 'Makefile'} ")
    assert made == {path.name: path.read_text() for path in (desk.folder / "secrets").iterdir()}


@pytest.mark.parametrize("page", [NOTIFY, CONTAINERS])
def test_settings_of_a_page_are_taken(tmp_path: Path, page: str) -> None:
    lines = [command for command in run_of(page) if ASSIGNED.match(command)]
    (tmp_path / "urls").write_text("mailto://user:password@mail.example")
    given: Mapping[str, str] = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    given = {name: value.replace("/run/secrets/notify_urls", str(tmp_path / "urls")) for name, value in given.items()}
    assert load_settings({"HOME": str(tmp_path), "ELEPAY_SECRET_KEY": KEY, **given}).mode == "test"
    assert lines


def test_sample_files_are_generated(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    shutil.copytree(ROOT / "sample_data", desk.folder / "sample_data")
    for command in run_of(SAMPLES):
        desk.types(command, many="1000")
        assert desk.command("check", "--offline", command.split()[-1]).returncode in (0, 1)


def test_the_sizes_of_the_dependencies_are_asked_for_as_the_page_says(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of()
    shutil.copy(ROOT / "pyproject.toml", desk.folder)
    (script,) = run_of(DEPENDENCIES)
    desk.types(script.replace(".venv/bin/", ""), says="celery 5")


ASSIGNED = re.compile(r"[A-Z_]+=\S*|[A-Z_]+=\".*\"$")
#: What the tests above run, by page.
RUN: dict[str, set[str]] = {
    page: set(run_of(page))
    for page in (
        FIRST,
        JA,
        README,
        COMMANDS,
        UNCLEAR,
        AFTER,
        LOST,
        SIMULATED,
        CONTAINERS,
        NOTIFY,
        SAMPLES,
        DEPENDENCIES,
    )
}
RUN[REHEARSE] = set()

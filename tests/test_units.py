"""Laws for the units of systemd: what they name exists, and nothing has more rights than it needs."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import ENV_FILE, LONGEST_END_SECONDS, UNITS, check_command, settings_of
from factories import program

from tasks.setting_sources import SECRETS_DIR
from tasks.settings import Settings, setting_names


class Unit:
    """A unit file, in which a key may stand several times."""

    def __init__(self, path: Path) -> None:
        self._lines: list[tuple[str, str, str]] = []
        section = ""
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self._lines.append((section, key, value))

    def all(self, key: str, section: str = "Service") -> list[str]:
        return [value for where, name, value in self._lines if (where, name) == (section, key)]

    def one(self, key: str, section: str = "Service") -> str:
        (value,) = self.all(key, section)
        return value


def read_env_file() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string("[env]\n" + ENV_FILE.read_text("utf-8"))
    return dict(parser["env"])


def test_there_is_a_unit_for_every_lasting_service() -> None:
    lasting = ("worker@", "watch", "beat", "console")
    assert {path.name for path in UNITS} == {f"onboard-{name}.service" for name in lasting}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_with_settings_that_exist(path: Path) -> None:
    unit = Unit(path)
    program, *words = shlex.split(unit.one("ExecStart"))
    assert program.endswith("/bin/onboard")
    check_command(words)
    given = dict(each.split("=", 1) for each in unit.all("Environment"))
    credentials = [each.partition(":")[0] for each in unit.all("LoadCredential")]
    assert {*given, *credentials} <= {*setting_names(), SECRETS_DIR}
    assert bool(credentials) == (given.pop(SECRETS_DIR, "") == "%d")
    settings_of({**read_env_file(), **{name: value.replace("%i", "1") for name, value in given.items()}})
    assert unit.one("EnvironmentFile") == "/etc/onboard/onboard.env"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_started_again_and_has_time_to_end(path: Path) -> None:
    unit = Unit(path)
    assert unit.one("Restart") == "always"
    assert unit.one("StartLimitIntervalSec", "Unit") == "0"
    assert unit.one("KillSignal") == "SIGTERM"
    assert unit.all("SuccessExitStatus") == (["3"] if "watch" in path.name else []), "a file that is unfinished"
    assert float(unit.one("TimeoutStopSec")) > (
        LONGEST_END_SECONDS if {"worker", "watch"} & {*unit.one("ExecStart").split()} else 10
    )


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_no_more_rights_than_it_needs(path: Path) -> None:
    unit, settings = Unit(path), settings_of(read_env_file())
    assert unit.one("ProtectSystem") == "strict"
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictSUIDSGID"):
        assert unit.one(key) == "yes"
    assert unit.one("CapabilityBoundingSet") == ""
    assert unit.one("User") == "onboard"
    assert f"/var/lib/{unit.one('StateDirectory')}" == str(settings.home)
    assert unit.all("ReadWritePaths") == ([str(settings.drop_folder)] if "watch" in path.name else [])


def test_the_example_of_settings_can_be_read() -> None:
    given = read_env_file()
    assert set(given) <= set(setting_names())
    assert settings_of(given).base_url == Settings.model_fields["base_url"].default


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the units are installed, with those of systemd itself."""
    program("systemd-analyze")
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree("/usr/lib/systemd/system", folder / "usr/lib/systemd/system", symlinks=True)
    system = folder / "etc/systemd/system"
    system.mkdir(parents=True)
    for path in UNITS:
        shutil.copy(path, system)
    started = folder / Unit(UNITS[0]).one("ExecStart").split()[0].removeprefix("/")
    started.parent.mkdir(parents=True)
    started.write_text("#!/bin/sh\n", "utf-8")
    started.chmod(0o755)
    return folder


def analyzed(*words: str) -> tuple[int, str]:
    """What systemd says, in its own words."""
    done = subprocess.run([program("systemd-analyze"), *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_systemd_has_nothing_to_say_about_the_units(installed: Path) -> None:
    names = [path.name.replace("@.", "@1.") for path in UNITS]
    assert analyzed("verify", f"--root={installed}", *names) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_no_unit_exposed(path: Path) -> None:
    """Of 10; a unit without any restriction has 9.2 to 9.6."""
    status, said = analyzed("security", "--offline=true", "--threshold=20", "--no-pager", str(path))
    assert status == 0, said[-2000:]
    assert "Overall exposure level" in said

"""What image, compose file and units say, as the tests of all three read it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import click
import typer
import yaml
from factories import ROOT

from tasks.settings import Settings

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "elepay-onboarding"}
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
ENV_FILE = ROOT / "deploy" / "systemd" / "onboard.env"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: Longest a worker or watcher takes to end: a request's longest time, and the writing of its answer (worker/watcher.py
#: and worker/worker_process.py add at most 15 seconds to it, Celery's shutdown 10).
LONGEST_END_SECONDS = Settings.model_fields["total_timeout_seconds"].default + 30


def commands() -> dict[str, click.Command]:
    from worker.cli import app

    return dict(getattr(typer.main.get_command(app), "commands", {}))


COMMANDS = commands()


def check_command(words: list[str]) -> None:
    """Assert that the command line exists: the command, and each of its options."""
    command = COMMANDS[words[0]]
    options = {each for parameter in command.params for each in parameter.opts}
    assert {word for word in words[1:] if word.startswith("-")} <= options


def filled_in(value: str) -> str:
    """Return what compose makes of a value when `.env` is empty."""
    return re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda found: found[1] or "", value)


def in_image() -> dict[str, str]:
    """Return the variables that the image sets."""
    text = DOCKERFILE.replace("\\\n", " ")
    return dict(pair.split("=", 1) for line in re.findall(r"^ENV (.+)$", text, re.MULTILINE) for pair in line.split())


def settings_of(given: Mapping[str, str]) -> Settings:
    """Read settings as a process with these variables would; what stands in secret files is made up."""
    secrets = {
        "LEDGER_URL": "postgresql+psycopg://onboard:word@ledger:5432/onboard",
        "ELEPAY_SECRET_KEY": "sk_test_deployed",
    }
    return Settings.model_validate({**given, **secrets})


def seconds(text: str) -> float:
    return float(re.sub(r"s$", "", text))

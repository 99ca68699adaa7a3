"""What a shell offers after some words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import ROOT


@pytest.fixture
def at_bash(tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers after some words, with the completion that the program itself gives out."""
    program = tmp_path / "bin" / "onboard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m worker.cli "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = """
        eval "$(onboard --show-completion)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _onboard_completion onboard
        printf '%s\\n' "${COMPREPLY[@]}"
    """

    def offered(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", "onboard", *words],
            env={**environment, "ELEPAY_MODE": "neither"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return offered


def test_bash_completes_commands_options_and_values(at_bash: Callable[..., list[str]]) -> None:
    assert {"run", "status", "ledger", "follow-up"} <= set(at_bash(""))
    assert at_bash("res") == ["resume", "resolve"]
    assert at_bash("ledger", "up") == ["upgrade"]
    assert at_bash("run", "--no-w") == ["--no-workers", "--no-wait"]
    assert at_bash("run", "--lang", "") == ["en", "ja"]
    assert at_bash("rehearse", "--profile", "rough") == ["rough_night"]
    assert at_bash("run", "") == [], "bash itself offers files then"


def test_a_shell_that_completes_waits_for_nothing_heavy() -> None:
    asked = {"_ONBOARD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "onboard simulator --profile "}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "worker.cli"],
        env={**os.environ, **asked, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert '"rough_night"' in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    heavy = {"celery", "httptools", "jinja2", "kombu", "pandas", "redis", "requests", "rich", "sqlalchemy", "structlog"}
    assert "typer" in imported
    assert heavy & imported == set()

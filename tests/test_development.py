"""Laws for pre-commit and devcontainer: thin calls of `make`, and what they name exists."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from factories import ROOT

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
DEVCONTAINER: dict[str, Any] = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
RECIPE = (ROOT / ".devcontainer" / DEVCONTAINER["build"]["dockerfile"]).read_text("utf-8")


def images(text: str) -> set[str]:
    """Return the images that a recipe begins with, by name and tag."""
    return {image.partition("@")[0] for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE)}


def test_every_commit_runs_the_checks_and_downloads_nothing() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert repository["repo"] == "local"
    assert hook["language"] == "system"
    assert hook["entry"] == "make check"
    assert hook["always_run"]
    assert not hook["pass_filenames"]
    assert "check" in TARGETS


def test_the_container_to_develop_in_calls_make_and_nothing_else() -> None:
    called = {key: DEVCONTAINER[key] for key in DEVCONTAINER if key.endswith("Command")}
    assert called == {"onCreateCommand": "sudo make tools", "postCreateCommand": "make install"}
    assert {command.split()[-1] for command in called.values()} <= TARGETS


def test_the_container_to_develop_in_has_the_python_that_is_shipped() -> None:
    assert images(RECIPE) == images((ROOT / "Dockerfile").read_text("utf-8"))
    assert {"git", "make", "sudo"} <= set(RECIPE.split())
    assert f"useradd --create-home {DEVCONTAINER['remoteUser']} " in RECIPE

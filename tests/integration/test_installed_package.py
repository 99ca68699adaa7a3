"""What is in the wheel is all that it needs: built, and run in an environment without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from factories import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is needed for it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("tasks", "worker", "simulator", "sample_data", "deploy"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs" / "man", source / "docs" / "man")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=source, check=True, capture_output=True
    )
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def onboard(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has this wheel, and the libraries that are installed here."""
    home = tmp_path_factory.mktemp("environment")
    uv = [sys.executable, "-m", "uv", "--quiet", "--no-cache", "--offline"]
    subprocess.run([*uv, "venv", "--python", sys.executable, home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--python", python, "--no-deps", wheel], check=True)
    (packages,) = (home / "venv" / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent / "onboard"


def said(command: Path, folder: Path, *words: str) -> str:
    """Return what a command prints that ends with 0."""
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TMPDIR": str(folder)}
    done = subprocess.run([command, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_that_is_data_is_missing_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        str(path.relative_to(ROOT))
        for package in ("tasks", "worker", "simulator")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert needed <= packed
    assert "worker/sample.csv" in packed
    assert any(name.endswith(".dist-info/sboms/sbom.cdx.json") for name in packed)
    top = {name.partition("/")[0] for name in packed if ".dist-info" not in name}
    assert {name for name in top if not name.endswith(".data")} == {"tasks", "worker", "simulator"}


def test_the_manual_page_is_found_where_man_looks_for_it(onboard: Path) -> None:
    share = onboard.parent.parent / "share" / "man"  # man looks there for what is in a bin beside it
    for name, page in ("man1", "onboard.1"), ("ja/man1", "ja/onboard.1"):
        assert (share / name / "onboard.1").read_text("utf-8") == (ROOT / "docs" / "man" / page).read_text("utf-8")


def test_the_installed_command_is_the_one_of_the_wheel(onboard: Path, tmp_path: Path) -> None:
    assert said(onboard, tmp_path, "--version").startswith("elepay-onboarding 0.1.0")
    python = onboard.with_name("python")
    program = "import tasks, worker, simulator; print(tasks.__file__, worker.__file__, simulator.__file__)"
    places = said(python, tmp_path, "-c", program)
    assert all(place.startswith(str(onboard.parent.parent)) for place in places.split())


@pytest.mark.resilience
def test_a_wheel_without_a_checkout_runs_the_rough_night(onboard: Path, tmp_path: Path) -> None:
    told = said(onboard, tmp_path, "demo")
    assert "exactly one source for every created row" in told
    assert "site-packages/worker/sample.csv" in told

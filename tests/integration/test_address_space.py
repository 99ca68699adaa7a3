"""The program under a limit on its address space, as `ulimit -v` sets it for a command and all of its children."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from factories import Command, Simulator, write_csv

from tasks.memory_limits import OUT_OF_MEMORY

#: What docs/operations.md promises to be enough, in KB as `ulimit` takes it.
ENOUGH_KB = 700_000
#: Less than what reads files needs to be loaded.
TOO_LITTLE_KB = 200_000


def limited(onboard: Command, kilobytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command, and whatever it starts, with so much address space."""
    return subprocess.run(
        [
            *("bash", "-c", 'ulimit -v "$0" && exec "$@"', str(kilobytes)),
            *(sys.executable, "-m", "worker.cli", *map(str, arguments)),
        ],
        cwd=onboard.folder,
        env={**onboard.environment, "PYTHONPATH": str(onboard.source)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_700_mb_suffice_for_a_run_with_its_workers_and_reports(simulator: Simulator, tmp_path: Path) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "night.csv", 300)
    for arguments in (("check", file), ("run", "--workers", 2, file)):
        done = limited(onboard, ENOUGH_KB, *arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    assert (onboard.home / "reports" / "1" / "report.xlsx").exists()
    assert len(simulator.sources()) == 300


def test_too_little_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = limited(Command(tmp_path), TOO_LITTLE_KB, "check", write_csv(tmp_path / "night.csv", 3))
    assert done.returncode == OUT_OF_MEMORY
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr

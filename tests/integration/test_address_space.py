"""The program under a limit on its address space, as `ulimit -v` sets it for a command and all of its children."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from factories import Command, Simulator, wait_until, write_csv

from tasks.memory_limits import OUT_OF_MEMORY

#: What docs/run/sizing.md promises to be enough, in KB as `ulimit` takes it.
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


@pytest.mark.resilience
def test_700_mb_suffice_for_a_run_with_its_workers_and_reports(simulator: Simulator, tmp_path: Path) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "night.csv", 300)
    with file.open("a") as open_file:
        open_file.write(",,,,\n" * 1000)
    for arguments in (("check", file), ("run", "--workers", 2, file)):
        done = limited(onboard, ENOUGH_KB, *arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        assert "(1,000, first on line 302)" in " ".join(done.stdout.split())
    assert (onboard.home / "reports" / "1" / "report.xlsx").exists()
    assert len(simulator.sources()) == 300
    summary = json.loads((onboard.home / "reports" / "1" / "summary.json").read_text())
    noted = [(warning["code"], warning["rows"], warning["first_line"]) for warning in summary["warnings"]]
    assert noted == [("empty_rows_at_end", 1000, 302)]


def test_too_little_is_said_in_a_sentence(tmp_path: Path) -> None:
    done = limited(Command(tmp_path), TOO_LITTLE_KB, "check", write_csv(tmp_path / "night.csv", 3))
    assert done.returncode == OUT_OF_MEMORY
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.resilience
def test_a_worker_that_gets_no_memory_says_so_and_another_makes_its_rows_good(
    simulator: Simulator, redis_url: str, tmp_path: Path
) -> None:
    onboard = Command(tmp_path, simulator, REDIS_URL=redis_url)
    assert onboard("status").returncode == 0
    output = tmp_path / "worker.log"
    worker = start_worker(onboard, output)
    wait_until(lambda: "worker ready" in output.read_text(), what="a worker")
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    taken = next(line.split()[1] for line in status if line.startswith("VmSize"))
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (int(taken) * 1024, resource.RLIM_INFINITY))
    run = onboard.start("run", "--no-workers", write_csv(tmp_path / "night.csv", 100))
    assert worker.wait(60) == OUT_OF_MEMORY
    assert "not enough memory" in output.read_text()
    another = start_worker(onboard, output)
    try:
        _, said = run.communicate(timeout=90)
        assert run.returncode == 0, said
        assert len(simulator.sources()) == 100
    finally:
        another.terminate()
        another.wait(60)


def start_worker(onboard: Command, output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "worker"],
            cwd=onboard.folder,
            env={**onboard.environment, "PYTHONPATH": str(onboard.source)},
            stdout=file,
            stderr=file,
        )

"""`make demo`: a rough night against the bundled simulator, from a file to its balanced reports.

Starts the simulator and one `onboard run` with real workers, then asks the simulator what it saw. Ends both, also on
Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "onboarding" / "demo"
#: Settings of the demo: a limit that the run meets, look-ups after a second, nothing of the user's own. The simulator's
#: lists are never behind; elepay's may be, so a real run waits for longer.
SETTINGS = {
    "ELEPAY_SECRET_KEY": "sk_test_demo",
    "ELEPAY_REQUESTS_PER_SECOND": "300",
    "ONBOARD_LOOK_UP_DELAY_SECONDS": "1",
    "ONBOARD_LIST_LAG_SECONDS": "2",
    "ONBOARD_HOME": str(HOME.relative_to(ROOT)),
}


def main() -> int:
    """Run the demo; 0 if the books balance and the simulator counted one source for every reference."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ELEPAY_", "ONBOARD_"))}
    environment.pop("REDIS_URL", None)
    environment.pop("LEDGER_URL", None)
    simulator = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", "0", "--profile", "rough_night", "--seed", "7"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        url = _address(simulator)
        _say("$ onboard simulator --profile rough_night --seed 7    # elepay on a rough night")
        _say("$ onboard run sample_data/clean.csv")
        run = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "run", "sample_data/clean.csv"],
            cwd=ROOT,
            env={**environment, **SETTINGS, "ELEPAY_BASE_URL": url},
        )
        code = _wait(run)
        return _compare(url, code)
    finally:
        simulator.terminate()
        simulator.wait(10)


def _address(simulator: subprocess.Popen[str]) -> str:
    said = simulator.stdout.readline() if simulator.stdout else ""
    return next(word for word in said.split() if word.startswith("http://"))


def _wait(run: subprocess.Popen[bytes]) -> int:
    """Wait for the run; Ctrl-C reaches it by itself, so only its end is waited for."""
    while True:
        try:
            return run.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _compare(url: str, code: int) -> int:
    """Hold what the simulator counted against the ledger's books."""
    counted = _get(f"{url}/_sim/statistics")
    summary = next(HOME.glob("reports/*/summary.json"), None)
    if summary is None:
        return code
    books = json.loads(summary.read_text(encoding="utf-8"))["books"]
    faults = counted["faults"]
    lost = sum(number for name, number in faults.items() if "commit_then" in name or "after_commit" in name)
    _say("")
    _say(
        f"the simulator saw {sum(counted['requests'].values()):,} requests, throttled {counted['throttled']:,},"
        f" and lost {lost:,} answers after the source was created"
    )
    references = counted["references"]
    _say(
        f"it holds {references['total']:,} references, {references['doubled_count']} of them with more than one source"
    )
    right = references["doubled_count"] == 0 and references["total"] == books["created"]
    _say("exactly one source for every created row" if right else "THIS IS WRONG: books and simulator disagree")
    return 0 if right and code in (0, 1) else 1


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address on loopback
        found: dict[str, Any] = json.load(answer)
        return found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

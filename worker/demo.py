"""`make demo`: a rehearsal of the sample file."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from tasks.errors import OnboardingError
from worker.commands.rehearse import Options, rehearse

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "clean.csv"


def main() -> int:
    """Rehearse; 0 if ledger and simulator agree, although the simulator refuses some rows (exit code 1)."""
    console = Console(highlight=False)
    console.print(f"$ onboard rehearse --seed 7 sample_data/{SAMPLE.name}")
    try:
        code, told = rehearse(Options(SAMPLE, seed=7), console)
    except OnboardingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0 if code in (0, 1) and told["rehearsal"]["agree"] else code


if __name__ == "__main__":
    raise SystemExit(main())

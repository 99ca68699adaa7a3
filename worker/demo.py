"""`make demo`: a rehearsal of the sample file."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.errors import OnboardingError
from worker.commands.rehearse import Options, defaults, rehearse
from worker.failures import spoken_language
from worker.screen import open_screen

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "clean.csv"


def main() -> int:
    """Rehearse; 0 if ledger and simulator agree, although the simulator refuses some rows (exit code 1)."""
    try:
        screen = open_screen(defaults().lang, "UTC")
        screen.console.print(f"$ onboard rehearse --seed 7 sample_data/{SAMPLE.name}")
        code, result = rehearse(Options(SAMPLE, seed=7), screen)
    except OnboardingError as error:
        sys.stderr.write(f"{error.in_language(spoken_language())}\n")
        return 2
    return 0 if code in (0, 1) and result["rehearsal"]["agree"] else code


if __name__ == "__main__":
    raise SystemExit(main())

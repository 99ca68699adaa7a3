"""`onboard demo`: a rehearsal of the sample file that comes with the program."""

from __future__ import annotations

from pathlib import Path

from worker.commands.rehearse import Options, rehearse
from worker.screen import Screen

#: The same file, in the installed package and in a checkout; pyproject.toml puts it into the package.
INSTALLED = Path(__file__).resolve().parent.parent / "sample.csv"
IN_CHECKOUT = INSTALLED.parent.parent / "sample_data" / "clean.csv"


def demo(screen: Screen) -> int:
    """Rehearse; 0 if ledger and simulator agree, although the simulator refuses some rows (exit code 1)."""
    sample = INSTALLED if INSTALLED.exists() else IN_CHECKOUT
    screen.console.print(f"$ onboard rehearse --seed 7 {_as_typed(sample)}", soft_wrap=True)
    code, result = rehearse(Options(sample, seed=7), screen)
    return 0 if code in (0, 1) and result["rehearsal"]["agree"] else code


def _as_typed(path: Path) -> Path:
    """Return a path as short as somebody here would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

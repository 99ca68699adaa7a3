"""LibreOffice without a window, with a profile of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Office:
    """Converts files as LibreOffice reads them."""

    def __init__(self, program: str, profile: Path) -> None:
        self._program = program
        self._profile = profile

    def convert(self, path: Path, form: str, reading: str = "") -> Path:
        """Convert a file into a format, read as the filter `reading` says; return where it is."""
        target = path.parent / f"as-{form}"
        subprocess.run(
            [
                *(self._program, f"-env:UserInstallation={self._profile.as_uri()}", "--headless", "--norestore"),
                *((f"--infilter={reading}",) if reading else ()),
                *("--convert-to", form, "--outdir", str(target), str(path)),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        (found,) = target.iterdir()
        return found

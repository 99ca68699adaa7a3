"""Says whether `make resilience` is due: whether what the disasters are about has changed since all of them passed.

    python tests/resilience_due.py            # exit code 1 and the reason if it is due
    python tests/resilience_due.py --passed   # note that all of them have passed with these files

The note is tests/resilience/passed.json: a fingerprint of each part that decides about rows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTE = ROOT / "tests" / "resilience" / "passed.json"
#: What reads, sends, remembers, limits and starts, and what people see.
PARTS = {
    "tasks": ("tasks/*.py", "tasks/operations/*.py"),
    "files": (
        "tasks/accept/*.py",
        "tasks/csv_records/*.py",
        "tests/fixtures/files/*",
        "tests/unit/tasks/reports/test_csv_reports.py",
    ),
    "send": ("tasks/send/*.py", "tasks/send/*.lua", "tasks/elepay/*.py"),
    "ledger": ("tasks/ledger/**/*.py",),
    "worker": ("worker/**/*.py",),
    "pages": (
        *(f"worker/console/**/*.{kind}" for kind in ("css", "j2", "js", "toml")),
        *(f"tasks/reports/*.{kind}" for kind in ("css", "j2", "py", "toml")),
        "tests/pages/*.py",
    ),
    "resilience": (
        "tests/resilience/*.py",
        "tests/integration/test_interleavings.py",
        "tests/interleaved_*.py",
        "tests/remote.py",
    ),
}


def fingerprints() -> dict[str, str]:
    """Return a hash of the files of each part."""
    found = {}
    for part, patterns in PARTS.items():
        digest = hashlib.sha256()
        for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
        found[part] = digest.hexdigest()
    return found


def main() -> int:
    """Say whether it is due, or note that it has passed."""
    now = fingerprints()
    if sys.argv[1:] == ["--passed"]:
        NOTE.write_text(json.dumps({"passed_at": f"{datetime.now(UTC):%Y-%m-%d}", **now}, indent=1) + "\n")
        return 0
    noted = json.loads(NOTE.read_text()) if NOTE.exists() else {}
    changed = [part for part, value in now.items() if noted.get(part) != value]
    if changed:
        print(f"make resilience is due: {', '.join(changed)} changed since all disasters passed")
        return 1
    print(
        f"make resilience is not due: {', '.join(now)} are as they were when all disasters passed, {noted['passed_at']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

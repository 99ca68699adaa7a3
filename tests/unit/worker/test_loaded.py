"""What a process loads before it works."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_starts_without_what_reads_files_and_writes_reports() -> None:
    program = "import sys, worker.celery_app, worker.worker_process; print(*sys.modules)"
    words = [sys.executable, "-c", program]
    loaded = set(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    assert {"celery", "sqlalchemy", "tasks.send.send_loop"} <= loaded
    assert {"jinja2", "pandas", "tasks.reports.writing", "xlsxwriter"} & loaded == set()

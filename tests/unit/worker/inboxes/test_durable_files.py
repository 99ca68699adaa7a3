"""A small file is written all or nothing."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from worker.inboxes.durable_files import write_file


def test_a_file_is_replaced_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    write_file(path, b"first")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_full_disk_the_earlier_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    write_file(path, b"first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_file(path, b"second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]

"""A file read in a process of its own: the same rows, the same faults, and what a kill of either process does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from reported import HEADER, Reported

from tasks.accept import AcceptanceChecks, Warnings, load_mapping, open_file, read_rows
from tasks.accept.subprocess_reader import BESIDE_BYTES, read_rows_beside
from tasks.errors import OnboardingError, UnusableFile
from tasks.models import BatchState, NewRow

RULES = AcceptanceChecks()
ROWS = 13_000
#: More than one chunk; some values are trimmed, some records broken.
CONTENT = HEADER + "".join(
    f"cus_{at:06d}{' ' * (at % 7 == 0)},{'nothing' if at % 50 == 0 else 'paypay'},web,会員 {at}\n" for at in range(ROWS)
)


def children(of: int | None = None) -> list[int]:
    """The processes that read a file for this one, or for another."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            if (
                int(parent) == (of or os.getpid())
                and b"tasks.accept.subprocess_reader" in entry.joinpath("cmdline").read_bytes()
            ):
                found.append(int(entry.name))
    return found


def beside(path: Path, rules: AcceptanceChecks, warnings: Warnings) -> list[NewRow]:
    return [row for chunk in read_rows_beside(path, open_file(path, rules), rules, warnings) for row in chunk]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(CONTENT)
    return path


def test_the_rows_and_warnings_are_the_same(file: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "crm.toml"
    mapping.write_text('[columns]\n"Kunde" = "customer_id"\n')
    file.write_text(CONTENT.replace("customer_id", "Kunde", 1))
    rules = AcceptanceChecks(mapping=load_mapping(mapping), sendable_methods=frozenset({"paypay"}))
    here, there = Warnings(), Warnings()
    rows = [row for chunk in read_rows(file, open_file(file, rules), rules, warnings=here) for row in chunk]
    assert beside(file, rules, there) == rows
    assert len(rows) == ROWS
    assert [row.state for row in rows].count("invalid") == ROWS / 50
    assert list(there) == list(here)
    assert list(here)
    assert not children()


def test_an_unusable_file_says_the_same(file: Path) -> None:
    file.write_text(CONTENT + 'cus_x,paypay,web,"never closed\n')
    with pytest.raises(UnusableFile) as here:
        list(read_rows(file, open_file(file, RULES), RULES))
    with pytest.raises(UnusableFile) as there:
        beside(file, RULES, Warnings())
    assert str(there.value) == str(here.value)
    assert vars(there.value) == vars(here.value)
    assert there.value.line == ROWS + 2


def test_a_fault_of_the_program_is_named_without_quoting_the_file(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = open_file(file, RULES)
    broken = replace(RULES, catalogue=None)  # type: ignore[arg-type]
    with pytest.raises(OnboardingError, match=r"reading the file failed \(AttributeError\)"):
        list(read_rows_beside(file, opened, broken, Warnings()))
    assert capfd.readouterr().err == ""
    assert not children()


def test_it_ends_when_nobody_wants_more_rows(file: Path) -> None:
    chunks = read_rows_beside(file, open_file(file, RULES), RULES, Warnings())
    next(chunks)
    assert len(children()) == 1
    with contextlib.closing(chunks):
        pass
    assert not children()


def test_no_module_of_the_folder_it_runs_in_is_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "tasks"
    folder.mkdir()
    folder.joinpath("__init__.py").write_text("raise SystemExit('a stranger')")
    file.parent.joinpath("pandas.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(file.parent)
    assert len(beside(file, RULES, Warnings())) == ROWS


def test_a_killed_one_is_an_error_and_nothing_of_the_file_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows, title = 34_000, f"{HEADER.strip()},metadata.a"
    lines = "".join(f"cus_{at:07d},paypay,web{f',{at:0250}' * 2}\n" for at in range(rows))
    assert len(lines) > BESIDE_BYTES
    reported = Reported(tmp_path)

    def kill(_records: int) -> None:
        for child in children():
            os.kill(child, signal.SIGKILL)

    with pytest.raises(OnboardingError, match=r"exit code -9.*Run it again"):
        reported.accept(f"{title}\n{lines}", progress=kill)
    assert [batch.state for batch in reported.ledger.batches.newest()] == []
    assert not children()
    batch = reported.accept_path(tmp_path / "customers.csv")
    assert (batch.state, batch.records) == (BatchState.RUNNING, rows)
    assert reported.ledger.queries.counts(batch.id).open == rows
    assert "Traceback" not in capfd.readouterr().err
    reported.close()


def test_it_ends_with_its_parent(file: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tasks.accept import AcceptanceChecks, Warnings, open_file
from tasks.accept.subprocess_reader import read_rows_beside
path, rules = Path({str(file)!r}), AcceptanceChecks()
next(read := read_rows_beside(path, open_file(path, rules), rules, Warnings()))
print("read", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "read\n"
        (child,) = children(parent.pid)
        parent.kill()
        parent.wait()
        assert parent.stderr
        assert parent.stderr.read() == ""
    ends = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()

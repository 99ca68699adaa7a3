"""A set of reports is whole or has no manifest; file, rows and counts agree or nothing is published."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from factories import ROOT, answer
from reported import HEADER, Reported, cells, refused

from tasks.files.file_store import MANIFEST
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.ledger.queries import Queries
from tasks.models import Batch, BatchState, LeasedRow, Outcome, ReportRow, RowCounts, RowState, Stop, StopCode
from tasks.operations import report
from tasks.reports.report_data import ReconciliationError
from tasks.reports.writing import write_reports

ROWS = HEADER + "".join(f"cus_{n},creditcard,ios,Plan {n}\n" for n in range(40)) + "x,nonsense,ios,a\n"


def half(row: LeasedRow) -> Outcome | None:
    return answer(row) if row.record % 2 else answer(row, RowState.REFUSED, code="U003005")


def whole_set(folder: Path) -> bool:
    """Whether the folder has a manifest; if it has, everything must be as it says."""
    if not (folder / MANIFEST).exists():
        return False
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for name, told in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert len(content) == told["bytes"], name
        assert hashlib.sha256(content).hexdigest() == told["sha256"], name
    return True


def test_the_manifest_names_every_file_with_size_checksum_and_the_books(reported: Reported) -> None:
    paths = reported.report(ROWS, half, excel_safe=True)
    folder = paths["manifest"].parent
    assert whole_set(folder)
    manifest = json.loads(paths["manifest"].read_bytes())
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert set(paths.values()) == set(folder.iterdir())
    assert manifest["books"]["records"] == 41
    assert manifest["books"]["balance"] is True
    assert manifest["file"]["name"] == "customers.csv"


def test_reports_are_for_their_owner_only(reported: Reported) -> None:
    paths = reported.report(ROWS, half)
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o600}
    assert stat.S_IMODE(paths["html"].parent.stat().st_mode) == 0o700


def test_a_new_set_takes_the_place_of_the_old_one(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS), half)
    before = reported.write(batch, excel_safe=True)
    after = reported.write(batch)
    assert not before["results_excel_safe"].exists()
    assert whole_set(after["html"].parent)
    (after["html"].parent / "my notes.txt").write_text("stay", encoding="utf-8")
    reported.write(batch)
    assert (after["html"].parent / "my notes.txt").exists()


def test_every_report_says_the_same(reported: Reported) -> None:
    paths = reported.report(ROWS, half)
    summary = json.loads(paths["summary"].read_bytes())
    counts = {name: summary["books"][name] for name in ("created", "refused", "invalid", "records")}
    assert counts == {"created": 20, "refused": 20, "invalid": 1, "records": 41}
    assert len(cells(paths["results"])) == 41
    assert len(cells(paths["failures"])) == summary["books"]["need_a_person"] == 21
    assert summary["verdict"]["text"] in paths["html"].read_text("utf-8")
    assert summary["codes"] == {"U003005": 20, "unknown_payment_method": 1}
    assert [task["rows"] for task in summary["to_do"]] == [20, 1]
    assert set(summary["reports"]) | {"manifest"} == set(paths)
    assert summary["file"]["columns"] == HEADER.strip().split(",")
    assert summary["rate"]["limit_requests_per_second"] == 20


def test_times_of_the_summary_are_utc_and_the_page_s_are_local(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS))
    facts = reported.facts(batch, started_at=0.0, finished_at=90.0)
    paths = reported.write(batch, facts=facts, now=lambda: 3600.0)
    times = json.loads(paths["summary"].read_bytes())["times"]
    assert (times["started_at"], times["seconds"]) == ("1970-01-01T00:00:00.000+00:00", 90.0)
    assert times["written_at"] == "1970-01-01T01:00:00.000+00:00"
    assert "1970-01-01 10:00:00 JST" in paths["html"].read_text("utf-8")


# Counts that do not add up -------------------------------------------------------------------------------------------


def refuses(reported: Reported, batch: Batch, rows: list[ReportRow], **changes: object) -> str:
    """Say why nothing was published; what stood there before still stands."""
    folder = reported.ours.lists_folder / str(batch.id)
    with pytest.raises(ReconciliationError) as caught:
        write_reports(LocalFolder(folder), reported.facts(batch, **changes), lambda: iter(rows))
    assert whole_set(folder)
    assert not list(folder.glob(".writing-*"))
    return str(caught.value)


def test_reports_that_do_not_balance_are_refused(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS), half)
    reported.write(batch)
    rows = list(reported.ledger.queries.report_rows(batch.id))
    assert "record 41 of the file (line 42) has no row" in refuses(reported, batch, rows[:-1])
    assert "a row for record 42, the file ends" in refuses(
        reported, batch, [*rows, rows[-1]._replace(record=42, line=43)]
    )
    assert "record 3 (line 4) of the file met record 4" in refuses(reported, batch, rows[:2] + rows[3:])
    assert "record 2 (line 3) of the file met record 3" in refuses(
        reported, batch, [rows[0], rows[2], rows[1], *rows[3:]]
    )
    other = [rows[0]._replace(state="refused"), *rows[1:]]
    assert "the ledger counted" in refuses(reported, batch, other)
    short = replace(reported.facts(batch).counts, created=19)
    assert "do not add up" in refuses(reported, batch, rows, counts=short)
    assert "the ledger counted 40 records" in refuses(reported, batch, rows, counts=RowCounts(40, created=40))
    assert whole_set(reported.write(batch)["html"].parent)


def test_an_accepted_copy_that_was_changed_is_refused(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS), half)
    reported.write(batch)
    kept = reported.ours.kept_file(batch)
    kept.write_bytes(kept.read_bytes().replace(b"Plan 1", b"Plan 9", 1))
    assert "is not the file that was accepted" in refuses(
        reported, batch, list(reported.ledger.queries.report_rows(batch.id))
    )


def test_a_running_batch_has_reports_while_its_rows_move(reported: Reported) -> None:
    batch = reported.accept(ROWS)
    early = reported.facts(batch)
    reported.settle(batch, lambda row: answer(row) if row.record < 5 else None)
    paths = reported.write(batch, facts=early)
    summary = json.loads(paths["summary"].read_bytes())
    assert summary["verdict"]["kind"] == "running"
    assert summary["books"]["created"] == 4
    assert [row["onboarding_code"] for row in cells(paths["failures"])] == ["unknown_payment_method"]


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.HALTED, BatchState.CANCELLED])
def test_rows_that_were_not_sent_need_a_person_once_nobody_sends_them(reported: Reported, state: BatchState) -> None:
    batch = reported.settle(reported.accept(ROWS), lambda row: answer(row) if row.record < 5 else None)
    facts = reported.facts(batch, batch=replace(batch, state=state, stop=Stop(StopCode.CANCELLED, {"who": "somebody"})))
    paths = reported.write(batch, facts=facts)
    found = cells(paths["failures"])
    unsent = 36 if state is BatchState.CANCELLED else 0
    assert [row["onboarding_code"] for row in found].count("not_attempted") == unsent
    assert len(found) == unsent + 1
    summary = json.loads(paths["summary"].read_bytes())
    assert summary["by_itself"]["waiting"] == 36 - unsent
    assert summary["books"]["need_a_person"] == sum(each["rows"] for each in summary["to_do"]) == unsent + 1


# Trouble in the middle ------------------------------------------------------------------------------------------------

WRITER = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from reported import Reported
made = Reported(Path({folder!r}), LEDGER_URL={ledger_url!r})
print("ready", flush=True)
if {limit!r}:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit!r}, {limit!r}))
while True:
    made.write(made.ledger.batches.get({batch}), excel_safe=True, lang={lang!r})
    if {once!r}:
        break
"""


def writer(
    reported: Reported, batch: Batch, lang: str = "en", *, once: bool = False, limit: int | None = None
) -> subprocess.Popen[str]:
    """A process that writes reports, over and over; `limit` is where its disk is full, in bytes of a file."""
    program = WRITER.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        folder=str(reported.folder),
        ledger_url=reported.ledger_url,
        batch=batch.id,
        lang=lang,
        once=once,
        limit=limit,
    )

    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def large(reported: Reported) -> Batch:
    lines = "".join(f"cus_{n},creditcard,ios,Plan {n}\n" for n in range(2000))
    return reported.settle(reported.accept(HEADER + lines), half)


@pytest.mark.resilience
def test_a_writer_that_is_killed_never_leaves_half_a_set_with_a_manifest(reported: Reported) -> None:
    batch = large(reported)
    folder = reported.ours.lists_folder / str(batch.id)
    with_manifest, rounds, seconds = False, 0, 0.3
    while rounds < 6 or not with_manifest:  # one has to get so far, however slow the machine is
        assert seconds < 30
        process = writer(reported, batch)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=10)
        with_manifest |= whole_set(folder)
        rounds += 1
        seconds += 0.13 if rounds < 6 else seconds
    paths = reported.write(batch)
    assert whole_set(folder)
    assert set(folder.iterdir()) == set(paths.values()), "what the killed ones left is gone"


@pytest.mark.parametrize("limit", [1, 30_000, 150_000, 250_000])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_full_disk_leaves_the_old_set(reported: Reported, limit: int) -> None:
    batch = large(reported)
    folder = reported.ours.lists_folder / str(batch.id)
    before = {path.name: path.read_bytes() for path in reported.write(batch, excel_safe=True).values()}
    assert max(map(len, before.values())) > 250_000
    process = writer(reported, batch, "ja", once=True, limit=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("OSError"), err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert whole_set(folder)


def test_two_writers_at_once_leave_one_whole_set(reported: Reported) -> None:
    batch = large(reported)
    folder = reported.ours.lists_folder / str(batch.id)
    reported.write(batch)
    both = [writer(reported, batch, lang, once=True) for lang in ("en", "ja")]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert whole_set(folder)
    assert not list(folder.glob(".writing-*"))
    page = (folder / "report.html").read_text("utf-8")
    japanese = 'lang="ja"' in page
    assert ("登録しました" in json.loads((folder / "summary.json").read_bytes())["verdict"]["text"]) == japanese


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS), refused())
    (reported.folder / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="file"):
        reported.write(batch, folder=reported.folder / "file" / "reports")


def test_a_halt_that_takes_refusals_back_meanwhile_does_not_spoil_the_reports(reported: Reported) -> None:
    batch = reported.settle(reported.accept(HEADER + "cus_1,paypay,web,\ncus_2,paypay,web,\n"), refused("M002003"))
    assert reported.ledger.lifecycle.change_state(
        batch.id, BatchState.HALTED, Stop(StopCode.SILENT), only_from=list(BatchState)
    )

    ledger = Ledger.open(reported.ledger_url)

    class Judging(Queries):
        def counts(self, batch_id: int) -> RowCounts:
            found = super().counts(batch_id)
            ledger.guards.take_back_refusals(batch_id, "M002003")
            return found

    ledger.queries = Judging(ledger.scope)
    reported.ours.__dict__["ledger"] = ledger
    paths = report.write(reported.ours, ledger.batches.get(batch.id))
    assert json.loads(paths["summary"].read_bytes())["books"]["open"] == 2
    ledger.close()

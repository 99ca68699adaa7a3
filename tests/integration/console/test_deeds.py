"""What people do on the pages: each deed changes what it says, once, and only for those who may."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from console_served import APPROVER, OPERATOR, VIEWER, Served, file_of
from consoles import PASSWORD, Browser
from factories import Command, new_worker, wait_until
from reported import Reported

from tasks.models import BatchState, RowState, Stop, StopCode
from tasks.operations.accept_batch import accept
from tasks.operations.console_users import add_user
from tasks.operations.retry import retry, write_retry_file
from worker.console.long_deeds import WAIT_SECONDS
from worker.console.people import Person, Role

Console = Callable[..., Served]
DEEDS = ("pause", "resume", "cancel", "approve", "retry", "report")


@pytest.fixture
def running(reported: Reported) -> int:
    """A batch that waits for a worker."""
    return reported.accept(file_of(30)).id


def state_of(reported: Reported, batch: int) -> BatchState:
    return reported.ledger.batches.get(batch).state


def test_a_batch_is_paused_resumed_and_cancelled(reported: Reported, console: Console, running: int) -> None:
    served = console(OPERATOR)
    assert "The batch is paused." in served.post(f"/batches/{running}/pause").text
    assert state_of(reported, running) is BatchState.PAUSED
    assert "The batch goes on." in served.post(f"/batches/{running}/resume").text
    assert state_of(reported, running) is BatchState.RUNNING
    assert "バッチを中止しました。" in served.post(f"/batches/{running}/cancel", "ja").text
    assert state_of(reported, running) is BatchState.CANCELLED
    assert [line["who"] for line in reported.ledger.history.lines(running, 0)] == [OPERATOR.name] * 3


def test_a_canary_is_approved(reported: Reported, console: Console) -> None:
    batch = reported.accept(file_of(30), canary_rows=5)
    assert reported.settle(batch).state is BatchState.RUNNING
    assert reported.ledger.lifecycle.pause_after_canary(batch.id)
    assert "onboard approve" not in console().get(f"/batches/{batch.id}").text.partition("<main")[0]
    refused = console(OPERATOR).post(f"/batches/{batch.id}/approve")
    assert refused.status_code == 403
    assert state_of(reported, batch.id) is BatchState.PAUSED
    assert console().post(f"/batches/{batch.id}/approve").status_code == 200
    assert state_of(reported, batch.id) is BatchState.RUNNING


def test_what_the_program_has_stopped_an_approver_resumes(reported: Reported, console: Console, running: int) -> None:
    stop = Stop(StopCode.BREAKER, {"refused": 9, "answers": 10, "batch": running})
    assert reported.ledger.lifecycle.pause(running, stop, "")
    assert console(OPERATOR).post(f"/batches/{running}/resume").status_code == 403
    assert state_of(reported, running) is BatchState.PAUSED
    assert console(APPROVER).post(f"/batches/{running}/resume").status_code == 200
    assert state_of(reported, running) is BatchState.RUNNING


@pytest.mark.parametrize("deed", DEEDS)
def test_a_viewer_does_nothing(reported: Reported, console: Console, night: int, deed: str) -> None:
    before = reported.ledger.history.lines(night)
    wanted = f"/batches/{night}/{deed}"
    answer = console(VIEWER).post(wanted)
    assert answer.status_code == 403
    assert "Nothing was changed." in answer.text
    *others, last = reported.ledger.history.lines(night)
    assert others == before
    assert (last["who"], wanted in last["what"]) == (VIEWER.name, True), "what was refused stands in the history"


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_no_link(console: Console, night: int, deed: str) -> None:
    assert console().get(f"/batches/{night}/{deed}").status_code == 405


def test_a_batch_is_retried_in_one_of_its_own(reported: Reported, console: Console, night: int) -> None:
    answer = console().post(f"/batches/{night}/retry")
    assert "rows are tried again" in answer.text
    child = reported.ledger.batches.get(night + 1)
    assert child.parent_id == night
    assert child.records == 18
    assert f'href="/batches/{child.id}"' in console().get(f"/batches/{night}").text


def test_reports_are_written_again_in_the_readers_language(reported: Reported, console: Console, night: int) -> None:
    assert "レポートを作成しました。" in console().post(f"/batches/{night}/report", "ja").text
    page = console().get(f"/batches/{night}/reports/html")
    page.encoding = "utf-8"
    assert '<html lang="ja">' in page.text


@contextlib.contextmanager
def held_up(reported: Reported) -> Iterator[None]:
    """A file that is read for so long, and before all others: a retry waits for its turn."""
    ledger = reported.ledger
    reader = new_worker(ledger).number
    batch = ledger.batches.add(name="long.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    yield
    ledger.batches.discard(batch)
    ledger.workers.end(reader)


def test_a_retry_that_takes_long_goes_on_behind_the_answer_and_once(
    reported: Reported, console: Console, night: int
) -> None:
    served, at = console(), f"/batches/{night}"
    with held_up(reported):
        begun = time.monotonic()
        answers = [served.post(f"{at}/retry", lang) for lang in ("en", "ja")]
        assert time.monotonic() - begun < 2 * WAIT_SECONDS, "the second does not wait"
        assert "goes on by itself" in answers[0].text
        assert "新しいバッチとして読み込んでいます" in answers[1].text
        page = served.get(at).text
        assert "(reading)" in page
        assert "data-every" in page
        assert f"{at}/retry" not in page, "it is being done"
    wait_until(lambda: "being read into" not in served.get(at).text, 30, "its end")
    (child,) = [batch for batch in reported.ledger.batches.newest() if batch.parent_id == night]
    assert (child.records, child.brought_by, child.who) == (18, "retry", APPROVER.name)


def test_a_retry_that_fails_behind_the_answer_says_why(reported: Reported, console: Console, night: int) -> None:
    served, at = console(), f"/batches/{night}"
    with held_up(reported):
        served.post(f"{at}/retry")
        kept = reported.ours.kept_file(reported.ledger.batches.newest(1)[0])
        copy = kept.read_bytes()
        kept.write_bytes(b"another file\n")
    wait_until(lambda: "being read into" not in served.get(at).text, 30, "its end")
    assert "Nothing was done" in served.get(at).text
    assert [batch for batch in reported.ledger.batches.newest() if batch.parent_id == night] == []
    kept.write_bytes(copy)
    assert "24 rows are tried again" in served.post(f"{at}/retry").text
    assert "Nothing was done" not in served.get(at).text


def test_a_console_that_is_killed_in_a_retry_leaves_nothing_that_a_second_one_does_not_mend(
    reported: Reported, night: int, tmp_path: Path
) -> None:
    """The real console, kill -9 while it waits to read the rows; then another one is asked again."""
    add_user(reported.ours, "hana", "approver", PASSWORD)
    command = Command(
        tmp_path,
        ONBOARD_HOME=reported.ours.settings.home,
        LEDGER_URL=reported.ledger_url,
        ELEPAY_BASE_URL=reported.ours.settings.base_url,
    )
    for attempt in ("killed", "again"):
        said = tmp_path / attempt
        with said.open("w") as file:
            process = command.start("console", "--port", "0", stdout=file.fileno(), stderr=file.fileno())
        wait_until(lambda said=said: re.search(r"http://127\.0\.0\.1:\d+", said.read_text()), what="the console")
        browser = Browser(re.findall(r"http://127\.0\.0\.1:\d+", said.read_text())[-1])
        assert browser.sign_in("hana").status_code == 303
        with held_up(reported) if attempt == "killed" else contextlib.nullcontext():
            answer = browser.post(f"/batches/{night}/retry")
            assert answer.status_code == 303
            if attempt == "killed":
                process.kill()
                process.wait(60)
    assert "said=retried&count=24" in answer.headers["location"], "18 refused rows, 6 unclear ones"
    process.terminate()
    process.wait(60)
    (child,) = [batch for batch in reported.ledger.batches.newest() if batch.parent_id == night]
    assert (child.state, child.records) == (BatchState.RUNNING, 18)
    looked_up = [line for line in reported.ledger.history.lines(night, 0) if "looked up again" in line["what"]]
    assert len(looked_up) == 1


def test_a_retry_that_ended_after_its_rows_were_read_is_finished_by_the_next(reported: Reported, night: int) -> None:
    """What a kill leaves between the two halves: rows in a batch of their own, unclear ones not looked up."""
    services, file = reported.ours, reported.folder / "again.csv"
    kept = services.kept_file(reported.ledger.batches.get(night))
    assert write_retry_file(reported.ledger, night, kept, file) == 18
    child = accept(services, file, who="a", brought_by="retry", parent_id=night).batch
    again = retry(services, night, who="a")
    assert again.child is not None
    assert (again.child.id, again.looked_up) == (child.id, 6)
    assert len(reported.ledger.batches.newest()) == 2


def test_a_deed_that_comes_too_late_names_who_was_first(reported: Reported, console: Console, running: int) -> None:
    first, second = console(Person("hanako@desk", Role.APPROVER)), console(Person("taro@desk", Role.OPERATOR))
    assert first.post(f"/batches/{running}/cancel").status_code == 200
    answer = second.post(f"/batches/{running}/pause")
    assert answer.status_code == 409
    assert "hanako@desk was first" in answer.text
    assert "only a running batch can be paused" in answer.text


# ------------------------------------------------------------------------------------------------ unclear rows


def unclear_of(reported: Reported, batch: int) -> list[str]:
    return [f"{batch}:{row.line}" for row in reported.ledger.resolution.unclear_rows(batch)]


def test_several_rows_are_decided_at_once(reported: Reported, console: Console, night: int) -> None:
    rows = unclear_of(reported, night)
    answer = console(OPERATOR).post("/decide", row=rows, decision="give-up", reason="the customers have left")
    assert f"{len(rows)} rows are decided." in answer.text
    assert unclear_of(reported, night) == []
    history = reported.ledger.history.lines(night, 5)
    assert history[-1]["what"] == "resolved: given_up, because: the customers have left"
    assert history[-1]["who"] == OPERATOR.name


def test_all_rows_of_a_page_are_decided_by_one_mark(reported: Reported, console: Console, night: int) -> None:
    served, rows = console(OPERATOR), unclear_of(reported, night)
    (mark,) = re.findall(r'name="row" value="([^"]*,[^"]*)"', served.get("/decide").text)
    assert mark.split(",") == rows
    assert "6 rows are decided." in served.post("/decide", row=[rows[0], mark], decision="give-up").text
    assert unclear_of(reported, night) == []


def test_absent_needs_a_reason_and_an_approver(reported: Reported, console: Console, night: int) -> None:
    rows = unclear_of(reported, night)[:2]
    assert console().post("/decide", row=rows, decision="absent", reason=" ").status_code == 400
    assert console(OPERATOR).post("/decide", row=rows, decision="absent", reason="asked").status_code == 403
    assert len(unclear_of(reported, night)) == 6
    assert console().post("/decide", row=rows, decision="absent", reason="asked elepay").status_code == 200
    assert len(unclear_of(reported, night)) == 4
    assert reported.ledger.queries.count_states(night)[RowState.WAITING] == 2


def test_a_decision_without_a_row_or_a_word_changes_nothing(console: Console, night: int) -> None:
    served = console()
    assert served.post("/decide", decision="give-up").status_code == 400
    assert served.post("/decide", row=f"{night}:6").status_code == 400
    assert served.post("/decide", row=f"{night}:6", decision="created").status_code == 409


def test_rows_that_cannot_be_decided_leave_the_others_decided(reported: Reported, console: Console, night: int) -> None:
    rows = unclear_of(reported, night)
    answer = console().post("/decide", row=[rows[0], f"{night}:2"], decision="give-up")
    assert answer.status_code == 409
    assert "1 row is decided." in answer.text
    assert "does not wait for a person" in answer.text
    assert rows[0] not in unclear_of(reported, night)


def test_two_people_decide_one_row_at_the_same_instant(reported: Reported, console: Console, night: int) -> None:
    """One of them decides; the other is told who did, and when. Of six rows each is decided once."""
    people = [console(Person(name, Role.APPROVER)) for name in ("hanako@desk", "taro@desk")]
    for row in unclear_of(reported, night):
        together, answers = threading.Barrier(2), []

        def decide(served: Served, row: str = row, together: threading.Barrier = together) -> None:
            together.wait()
            answers.append(served.post("/decide", row=row, decision="give-up"))  # noqa: B023

        threads = [threading.Thread(target=decide, args=(served,)) for served in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        record = int(row.partition(":")[2]) - 1
        decided = [line for line in reported.ledger.history.lines(night, record) if line["what"].startswith("resolved")]
        assert len(decided) == 1
        lost = next(answer for answer in answers if answer.status_code == 409)
        assert f"{decided[0]['who']} was first" in lost.text


# --------------------------------------------------------------------------------------------------- set aside


def test_a_row_is_set_aside_and_taken_back(reported: Reported, console: Console, night: int) -> None:
    served = console(OPERATOR)
    assert served.post("/open/dismiss", batch=night, line=3, reason="").status_code == 409
    assert "The row is set aside." in served.post("/open/dismiss", batch=night, line=3, reason="closed shop").text
    assert reported.ledger.open_work.of_batch(night).dismissed == 1
    assert "It needs a person again" in served.get(f"/batches/{night}/lines/3").text
    assert "要対応に戻しました。" in served.post("/open/take-back", "ja", batch=night, line=3).text
    assert reported.ledger.open_work.of_batch(night).dismissed == 0
    assert served.post("/open/take-back", batch=night, line=3).status_code == 409

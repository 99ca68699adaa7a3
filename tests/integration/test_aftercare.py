"""What comes after the creating, on both kinds of ledger: follow-up, audit, retention."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import answer, ledger_of, new_row, new_worker, running_batch, whole
from sqlalchemy import text

from tasks.elepay.client import SourceList
from tasks.errors import ElepayError, Halted, Maintenance, NotSent, RateLimitUnavailable, Refused, Unclear
from tasks.files.local_folder import LocalFolder
from tasks.identities import reference_of
from tasks.ledger import AuditedRow, FollowUpRow, Ledger, StatusObservation
from tasks.models import Account, BatchState, Outcome, RowState, Source, Stop, StopCode, decode_reasons
from tasks.operations import follow_up, retention
from tasks.operations.audit_comparison import compare
from tasks.operations.follow_up import FollowUpRules, next_question
from tasks.send.rate_limit import CurrentRate, RateLimit, connect

RULES = FollowUpRules(gaps_hours=(1.0, 6.0, 24.0), days=30.0)


def created_batch(ledger: Ledger, rows: int = 4, *, due_in: float = 0.0, status: str = "pending") -> int:
    """A finished batch whose sources are due for following up."""
    batch = running_batch(ledger, rows)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    worker.record(*(answer(row, source_status=status, follow_up_after=due_in) for row in held))
    assert ledger.lifecycle.close(batch)
    return batch


def due(ledger: Ledger, limit: int = 100) -> list[FollowUpRow]:
    return ledger.follow_up.claim(limit)


def follow(ledger: Ledger, say: Callable[[str], str]) -> follow_up.FollowedUp:
    class Api:
        def retrieve_source_status(self, source_id: str) -> str:
            return say(source_id)

    class Places:
        def take_place(self, _sleep: object, given_up: Callable[[], bool]) -> bool:
            return not given_up()

        def cut(self, *_: object, **__: object) -> None: ...

        def current(self) -> CurrentRate:
            return CurrentRate(20.0, 20.0, 0.0)

    return follow_up.ask_about_due_sources(ledger, Api(), [Places()], RULES, ends=math.inf)  # type: ignore[arg-type, list-item]


# ---------------------------------------------------------------------------------------------------------- following


def test_only_created_and_pending_rows_are_ever_due(ledger: Ledger) -> None:
    running_batch(ledger, [new_row(n, customer=f"other_{n}") for n in range(1, 4)])
    assert due(ledger) == []
    created_batch(ledger, due_in=3600)
    assert due(ledger) == [], "not yet"
    assert ledger.follow_up.count_due() == 0


def test_a_row_that_is_due_is_claimed_once_by_however_many(ledger: Ledger) -> None:
    batch = created_batch(ledger, 40)
    claimed: list[int] = []
    threads = [threading.Thread(target=lambda: claimed.extend(row.record for row in due(ledger, 7))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed))
    claimed += [row.record for row in due(ledger)]
    assert sorted(claimed) == list(range(1, 41))
    assert ledger.batches.get(batch).state is BatchState.FINISHED


@pytest.mark.parametrize("other", [Account(True, "here"), Account(False, "there")])
def test_a_claim_is_of_the_own_account_only(ledger_url: str, other: Account) -> None:
    here, elsewhere = ledger_of(ledger_url, Account(False, "here")), ledger_of(ledger_url, other)
    created_batch(here)
    assert elsewhere.follow_up.count_due() == 0
    assert elsewhere.follow_up.claim(10) == []
    assert here.follow_up.claim(10)
    here.close()
    elsewhere.close()


def test_what_elepay_says_is_recorded_and_gaps_grow(ledger: Ledger) -> None:
    batch = created_batch(ledger, 4)
    words = {"src_1": "active", "src_2": "failed", "src_3": "pending"}

    def say(source_id: str) -> str:
        if source_id == "src_4":
            raise Refused("M002003", http_status=400)
        return words[source_id]

    said = follow(ledger, say)
    assert (said.asked, said.changed, said.stopped_by) == (4, 2, "")
    assert [row.source_status for row in ledger.queries.report_rows(batch)] == [
        "active",
        "failed",
        "pending",
        "pending",
    ]
    assert due(ledger) == []
    with ledger.engine.read() as connection:
        found = connection.execute(text("select follow_up_at, follow_ups, status_at from rows order by record")).all()
    now = time.time()
    assert [row[1] for row in found] == [1] * 4
    assert [row[0] is None for row in found] == [True, True, False, False]
    assert all(abs(row[0] - now - 6 * 3600) < 60 for row in found[2:])
    assert [row[2] is None for row in found] == [False, False, True, True]
    assert [line["what"] for line in ledger.history.lines(batch, 2)] == ["source is failed, was pending"]


def test_an_ended_source_lets_its_identity_be_onboarded_again(ledger: Ledger) -> None:
    created_batch(ledger, 1)
    follow(ledger, lambda _id: "deleted")
    again = running_batch(ledger, 1)
    assert ledger.queries.count_states(again) == {RowState.WAITING: 1}


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (Halted("M004001", http_status=400), 0),
        (NotSent("connection_refused"), 0),
        (Maintenance("S002000", http_status=500), 0),
        (Unclear("S001000", http_status=500), 1),
    ],
)
def test_a_failure_that_is_not_one_sources_ends_the_round_and_loses_nothing(
    ledger: Ledger, error: ElepayError, counts: int
) -> None:
    created_batch(ledger, 30)

    def say(_source_id: str) -> str:
        raise error

    said = follow(ledger, say)
    assert error.code in said.stopped_by
    assert said.changed == 0
    assert ledger.follow_up.count_due() >= 30 - follow_up.THREADS
    assert counts or ledger.follow_up.count_due() == 30


def test_without_redis_nobody_is_asked(ledger: Ledger) -> None:
    created_batch(ledger, 3)

    class Gone:
        def take_place(self, *_: object) -> bool:
            raise RateLimitUnavailable("Redis does not answer")

        def current(self) -> CurrentRate:
            raise RateLimitUnavailable("Redis does not answer")

    said = follow_up.ask_about_due_sources(ledger, None, [Gone()], RULES, ends=math.inf)  # type: ignore[arg-type, list-item]
    assert said.stopped_by == "Redis does not answer"
    assert ledger.follow_up.count_due() == 3


def test_for_as_long_as_elepay_asked_to_wait_nobody_is_asked(ledger: Ledger, redis_url: str) -> None:
    created_batch(ledger, 30)
    limits = [RateLimit(connect(redis_url), 100.0, key) for key in ("share", "fleet")]
    asked: list[str] = []

    class Api:
        def retrieve_source_status(self, source_id: str) -> str:
            asked.append(source_id)
            raise Unclear("http_503", http_status=503, retry_after_seconds=600.0, bare=True)

    rounds = [
        follow_up.ask_about_due_sources(ledger, Api(), limits, RULES, ends=math.inf)  # type: ignore[arg-type]
        for _ in range(2)
    ]
    assert "http_503" in rounds[0].stopped_by
    assert rounds[1].stopped_by.startswith("elepay asked to wait, for ")
    assert 1 <= len(asked) <= follow_up.THREADS
    assert limits[1].current().paused_seconds == 0, "creates find out by themselves"
    assert ledger.follow_up.count_due() >= 30 - follow_up.THREADS


def test_while_a_batch_is_halted_nobody_is_asked(ledger: Ledger) -> None:
    created_batch(ledger, 3)
    other = running_batch(ledger, [new_row(1, customer="cus_other")])
    ledger.lifecycle.change_state(other, BatchState.HALTED, Stop(StopCode.SILENT), only_from=[BatchState.RUNNING])
    said = follow(ledger, lambda _id: pytest.fail("asked"))
    assert said.stopped_by == f"batch {other} is halted"


def test_gaps_grow_to_the_last_one_and_end_after_the_days() -> None:
    def gap(follow_ups: int, age_days: float) -> float | None:
        now = 1e9
        then = next_question(FollowUpRow(1, 1, 2, "src", "pending", follow_ups, now - age_days * 86400), now, RULES)
        return None if then is None else (then - now) / 3600

    assert [gap(n, 1.0) for n in range(5)] == [6.0, 24.0, 24.0, 24.0, 24.0]
    assert gap(9, 29.5) is None


def test_sources_to_look_at_are_the_ended_and_the_long_pending(ledger: Ledger) -> None:
    batch = created_batch(ledger, 4)
    claimed = due(ledger)
    ledger.follow_up.record(
        [StatusObservation(claimed[0], "failed", None), StatusObservation(claimed[1], "active", None)]
    )
    everything = list(ledger.follow_up.sources_to_look_at(time.time() + 1))
    assert [(one.line, one.status) for one in everything] == [(2, "failed"), (4, "pending"), (5, "pending")]
    assert [one.line for one in ledger.follow_up.sources_to_look_at(time.time() - 3600)] == [2]
    assert everything[0].reference == ledger.queries.report_row(batch, 1).reference


# ------------------------------------------------------------------------------------------------------------ auditing

REFERENCE = reference_of(bytes(16), 1)
OTHER = reference_of(b"1" * 16, 1)


def audited(state: str = "created", source_id: str = "src_1", status: str = "pending", record: int = 1) -> AuditedRow:
    return AuditedRow("cus_1", "creditcard", record, record + 1, state, REFERENCE, source_id, status)


def source(source_id: str = "src_1", status: str = "pending", reference: str | None = REFERENCE) -> Source:
    return Source(source_id, status, False, "creditcard", reference, has_metadata=reference is not None)


@pytest.mark.parametrize(
    ("row", "sources", "statuses", "kinds"),
    [
        (audited(), [source()], {}, []),
        (audited(), [source(status="active")], {}, ["changed"]),
        (audited(), [], {1: "deleted"}, ["changed"]),
        (audited(), [], {1: None}, ["missing"]),
        (audited(), [], {1: "pending"}, []),
        (audited(), [source(), source("src_2")], {}, ["twice"]),
        (audited(), [source(), source("src_2", "deleted")], {}, []),
        (audited(), [source("src_2")], {1: None}, ["missing", "extra"]),
        (audited(), [source("src_2")], {1: "deleted"}, ["changed", "extra"]),
        (audited(), [source("src_2")], {1: "pending"}, ["twice"]),
        (audited("refused", ""), [source()], {}, ["extra"]),
        (audited("unclear", ""), [source()], {}, ["extra"]),
        (audited("waiting", ""), [source(), source("src_2")], {}, ["extra", "extra"]),
        (audited("waiting", ""), [], {}, []),
        (audited(), [source(), source("src_3", reference=OTHER)], {}, ["extra"]),
        (audited(), [source(), source("src_3", reference="somebody else's")], {}, ["extra"]),
        (audited(), [source(reference=None)], {}, ["not_comparable"]),
        (audited(), [source(), source("src_3", reference=None)], {}, []),
    ],
)
def test_what_differs_is_told_by_kind(
    row: AuditedRow, sources: list[Source], statuses: dict[int, str | None], kinds: list[str]
) -> None:
    found = compare([row], SourceList(sources, complete=True), statuses, set(), live=False)
    assert [one.kind for one in found] == kinds


def test_the_other_mode_or_method_is_a_change_and_known_references_are_none() -> None:
    other_mode = Source("src_1", "pending", True, "paypay", REFERENCE, has_metadata=True)
    listed = SourceList([other_mode, source("src_3", reference=OTHER)], complete=True)
    found = compare([audited()], listed, {}, {OTHER}, live=False)
    assert [(one.kind, one.ledger, one.elepay) for one in found] == [
        ("changed", "creditcard", "paypay"),
        ("changed", "test", "live"),
    ]


@pytest.mark.parametrize("listed", [SourceList([], complete=False), "S001000"])
def test_a_list_that_proves_nothing_is_said_to(listed: SourceList | str) -> None:
    found = compare([audited("refused", "")], listed, {}, set(), live=False)
    assert [one.kind for one in found] == ["not_comparable"]


def test_rows_are_read_by_customer_whatever_their_order_in_the_file(ledger: Ledger) -> None:
    batch = running_batch(
        ledger, [new_row(1, customer="cus_b"), new_row(2, customer="cus_a"), new_row(3, state="invalid")]
    )
    first = ledger.audit.page(batch, ("", "", 0), 1)
    assert [row.customer_id for row in first] == ["cus_a"]
    rest = ledger.audit.page(batch, (first[0].customer_id, first[0].payment_method, first[0].record), 10)
    assert [row.customer_id for row in rest] == ["cus_b"]
    assert ledger.audit.page(batch, ("cus_b", "creditcard", 1), 10) == []


def test_an_audit_refreshes_statuses_and_ends_the_following_up(ledger: Ledger) -> None:
    batch = created_batch(ledger, 2)
    ledger.audit.refresh_statuses(batch, [(1, "src_1", "active"), (2, "src_of_another", "active")])
    assert [row.source_status for row in ledger.queries.report_rows(batch)] == ["active", "pending"]
    assert [row.record for row in due(ledger)] == [2]


def test_references_of_other_rows_are_known_if_they_are_created(ledger: Ledger) -> None:
    batch = created_batch(ledger, 2)
    known = ledger.queries.report_row(batch, 1).reference
    waiting = running_batch(ledger, [new_row(1, customer="cus_other")])
    unknown = ledger.queries.report_row(waiting, 1).reference
    assert ledger.audit.created_references({known, unknown, "somebody else's", f"{known}-2"}) == {known}


# ------------------------------------------------------------------------------------------------------------ tidying


def age(ledger: Ledger, batch: int, days: float) -> None:
    with ledger.engine.write() as connection:
        connection.execute(
            text("update batches set finished_at = finished_at - :s where id = :b"), {"s": days * 86400, "b": batch}
        )


def kept(tmp_path: Path, ledger: Ledger, batch: int) -> tuple[Path, Path]:
    """Give a batch its file and a folder of reports."""
    file = tmp_path / "files" / f"{ledger.batches.get(batch).sha256}.csv"
    folder = tmp_path / "reports" / str(batch)
    for path in (file, folder / "results.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("cus_000001")
    return file, folder


def tidy(tmp_path: Path, ledger: Ledger, days: float = 30) -> retention.Tidied:
    return retention.drop_old_batches(ledger, LocalFolder(tmp_path / "files"), LocalFolder(tmp_path / "reports"), days)


def test_old_batches_lose_files_reports_and_people_but_not_their_books(ledger: Ledger, tmp_path: Path) -> None:
    batch = created_batch(ledger, 3)
    file, folder = kept(tmp_path, ledger, batch)
    counts = ledger.queries.counts(batch)
    assert tidy(tmp_path, ledger) == retention.Tidied(), "too young"
    age(ledger, batch, 31)
    assert tidy(tmp_path, ledger) == retention.Tidied(1, 3, 1, 1)
    assert not file.exists()
    assert not folder.exists()
    with ledger.engine.read() as connection:
        found = connection.execute(
            text("select customer_id, request from rows where batch_id = :b"), {"b": batch}
        ).all()
    assert set(found) == {(None, None)}
    assert ledger.queries.counts(batch) == counts
    assert ledger.batches.get(batch).dropped_at is not None
    assert tidy(tmp_path, ledger) == retention.Tidied(), "once is enough"
    again = running_batch(ledger, 3)
    assert ledger.queries.count_states(again) == {RowState.SKIPPED: 3}, "exactly once still holds"
    assert len(due(ledger)) == 3, "following up needs no customer"
    assert ledger.control_sources.choose(again, 1, "creditcard", after=0.0) == [], "a witness needs one"


def test_nothing_is_dropped_without_days_or_while_a_younger_batch_needs_the_file(
    ledger: Ledger, tmp_path: Path
) -> None:
    old, young = created_batch(ledger, 1), running_batch(ledger, [new_row(1, customer="cus_young")])
    age(ledger, old, 31)
    file, folder = kept(tmp_path, ledger, old)
    assert tidy(tmp_path, ledger, 0) == retention.Tidied()
    assert tidy(tmp_path, ledger) == retention.Tidied(1, 1, 0, 1)
    assert file.exists()
    assert not folder.exists()
    assert ledger.batches.get(young).dropped_at is None


def test_rows_in_doubt_keep_what_is_needed_until_they_are_settled(ledger: Ledger, tmp_path: Path) -> None:
    batch = running_batch(ledger, 2)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    worker.record(answer(held[0]), Outcome(batch, 2, 1, RowState.UNCLEAR, code="lookup_inconclusive"))
    assert ledger.lifecycle.close(batch)
    age(ledger, batch, 31)
    assert tidy(tmp_path, ledger).rows == 1
    assert ledger.resolution.customer_of(batch, 2) == "cus_000002"
    ledger.resolution.resolve(batch, 2, RowState.CREATED, source_id="src_2", who="somebody")
    assert ledger.resolution.customer_of(batch, 2) == ""


def test_what_was_dropped_is_not_in_the_file_either_while_others_have_it_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    batch = created_batch(ledger, 200)
    age(ledger, batch, 31)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("select count(*) from rows").fetchone() == (200,)
        assert tidy(tmp_path, ledger).rows == 200
        left = b"".join(each.read_bytes() for each in tmp_path.glob("ledger.db*"))
        ledger.close()
    assert b"cus_000001" not in left


def test_rejected_values_go_and_their_codes_stay(ledger: Ledger, tmp_path: Path) -> None:
    bad = new_row(1, state="invalid")._replace(reasons=b'[["bad_customer_id","customer_id","taro@example","x"]]')
    batch = running_batch(ledger, [bad])
    assert ledger.lifecycle.close(batch)
    age(ledger, batch, 31)
    assert tidy(tmp_path, ledger).rows == 1
    assert [tuple(one) for one in ledger.queries.report_row(batch, 1).reasons] == [
        ("bad_customer_id", "customer_id", "", "")
    ]
    assert decode_reasons(None) == ()

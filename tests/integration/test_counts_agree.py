"""Nights and mornings at random: every count of every report, command, message and metric is the same, and true."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factories
import pytest
from factories import Simulator
from hinted import Installation
from mornings import Mornings, facts_of
from prometheus_client.parser import text_string_to_metric_families
from reported import cells
from rich.console import Console

from tasks.metrics_registry import counters
from tasks.models import BatchState, Notification, NotificationKind
from tasks.operations import report
from tasks.operations.open_work import count_open_work
from worker import notifier
from worker.commands import open_work, status
from worker.embedded_redis import EmbeddedRedis
from worker.metrics import Observation, render
from worker.screen import Screen, open_screen

STEPS = 10


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def new(tmp_path: Path, shared_simulator: Simulator, redis: str) -> Iterator[Callable[[], Installation]]:
    """Makes an installation; elepay has nothing at first."""
    shared_simulator.post("reset", profile="clean")
    quick = {"ONBOARD_LOOK_UPS": 1, "ONBOARD_GUARD_ANSWERS": 0, "ONBOARD_WORKERS": 1}
    place = Installation(tmp_path, shared_simulator, redis, **quick)
    yield lambda: place
    place.close()


@pytest.mark.parametrize("seed", range(40 if factories.searches_at_full_length else 1))
@pytest.mark.resilience
@pytest.mark.representative(every_case=True)
def test_after_every_step_all_counts_are_the_same_and_true(new: Callable[[], Installation], seed: int) -> None:
    mornings = Mornings(new(), seed)
    for _ in range(STEPS):
        mornings.step()
        try:
            Judge(mornings).judge(all_reports=len(mornings.did) == STEPS)
        except AssertionError as error:
            raise AssertionError("\n".join([*mornings.did, str(error)])) from error


class Judge:
    """Compares what is said in all places with each other and with the truth."""

    def __init__(self, mornings: Mornings) -> None:
        self.truth, self.place = mornings, mornings.place
        self.services, self.ledger = self.place.services, self.place.ledger
        self.of_batch = Counter(each.key.batch for each in mornings.open.values())
        self.total = len(mornings.open)

    def judge(self, *, all_reports: bool) -> None:
        """Fail if one of them differs."""
        self.elepay()
        self.rows()
        self.lists_and_metrics()
        listed = self.command(status.status, None)
        assert (listed["open"], sum(each["work"]["open"] for each in listed["batches"])) == (self.total, self.total)
        for each in listed["batches"]:
            self.status_and_message(each)
        newest = [each["batch"] for each in listed["batches"]]
        some = {*newest[:1], *self.truth.random.sample(newest, min(1, len(newest)))}
        for batch in newest if all_reports else some:
            self.reports(batch)

    def elepay(self) -> None:
        """Every source is one row's, and no customer with a source is called open but for a row in doubt."""
        truth = self.truth
        waiting = set() if truth.waiting is None else set(truth.waiting[1])
        assert self.place.sources() == Counter(truth.created | (truth.owned - waiting))
        in_doubt = {customer for customer, each in truth.open.items() if each.state == "unclear"}
        assert (set(truth.open) & set(self.place.sources())) == in_doubt

    def rows(self) -> None:
        found = {(each.batch_id, each.row.record, each.row.state) for each in self.ledger.open_work.open_rows()}
        assert found == {(*each.key, each.state) for each in self.truth.open.values()}

    def lists_and_metrics(self) -> None:
        listed = self.command(open_work.list_open, None, csv=None)
        assert (listed["open"], sum(each["rows"] for each in listed["groups"])) == (self.total, self.total)
        batches: Counter[str] = Counter()
        for group in listed["groups"]:
            batches.update(group["batches"])
        assert batches == {str(batch): rows for batch, rows in self.of_batch.items()}
        message = notifier.message_of(self.services, Notification(1, NotificationKind.DIGEST, self.ledger.now()))
        assert (message.facts["open"], number_in(message.title)) == (self.total, self.total)
        assert sum(each["rows"] for each in message.facts["reasons"]) == self.total
        counts = count_open_work(self.services)
        page = render(Observation(counters.read(), open_work=counts)).decode()
        states = Counter(each.state for each in self.truth.open.values())
        assert gauges(page, "onboard_open_work_rows") == {
            state: states["waiting" if state == "open" else state]
            for state in ("invalid", "refused", "unclear", "open")
        }
        assert gauges(page, "onboard_undecided_rows") == {"": states["unclear"]}
        oldest = min((group["since"] for group in listed["groups"]), default=0.0)
        assert gauges(page, "onboard_open_work_oldest_timestamp_seconds")[""] == pytest.approx(oldest)

    def status_and_message(self, listed: dict[str, Any]) -> None:
        batch, need = listed["batch"], self.of_batch[listed["batch"]]
        shown = self.command(status.status, batch)
        assert (shown["work"], shown["books"]) == (listed["work"], listed["books"])
        assert shown["books"]["balance"]
        assert (shown["work"]["open"], number_in(shown["verdict"])) == (need, need)
        if shown["state"] == BatchState.FINISHED:
            assert shown["exit"] == (1 if need else 0)
            said = notifier.message_of(self.services, Notification(1, NotificationKind.FINISHED, 0.0, batch))
            assert (said.facts["open"], number_in(said.title)) == (need, need)
            assert (said.facts["open_elsewhere"], said.facts["books"]) == (self.total - need, shown["books"])
            assert sum(each["rows"] for each in said.facts["reasons"]) == need
            assert said.severity == ("warning" if need else "success")

    def reports(self, batch: int) -> None:
        paths, need = report.write(self.services, self.ledger.batches.get(batch)), self.of_batch[batch]
        summary = facts_of(paths["summary"])
        assert (summary["work"]["open"], number_in(summary["verdict"]["text"])) == (need, need)
        assert {name: summary["books"][name] for name in BOOKS} == {
            name: self.command(status.status, batch)["books"][name] for name in BOOKS
        }
        # a batch that has stopped lists the rows that go on with it as well
        not_people_s = () if self.is_over(batch) else ("open",)
        failures = [row for row in cells(paths["failures"]) if row["onboarding_state"] not in not_people_s]
        to_do = [each for each in summary["to_do"] if each["state"] not in ("skipped", *not_people_s)]
        assert (len(failures), sum(each["rows"] for each in to_do)) == (need, need)

    def is_over(self, batch: int) -> bool:
        return self.ledger.batches.get(batch).state in (BatchState.FINISHED, BatchState.CANCELLED)

    def command(self, show: Callable[..., tuple[int, dict[str, Any]]], *given: Any, **more: Any) -> dict[str, Any]:
        """Return what a command says as JSON, and its exit code."""
        screen = Screen(Console(file=io.StringIO(), width=200), open_screen("en", "Asia/Tokyo").texts)
        code, result = show(self.services, *given, screen, **more)
        return {**result, "exit": code}


BOOKS = ("records", "created", "skipped", "invalid", "refused", "unclear", "open", "balance")


def number_in(sentence: str) -> int:
    """Return how many rows a headline or subject says are open."""
    found = re.search(r"(\d+) (?:rows? )?needs? attention(?!:)", sentence) or re.search(
        r"(?:, |: )(\d+) open", sentence
    )
    return int(found[1] or found[2]) if found else 0


def gauges(page: str, name: str) -> dict[str, float]:
    """Return the values of a metric by its state, as Prometheus reads them."""
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return {sample.labels.get("state", ""): sample.value for sample in families[name].samples}

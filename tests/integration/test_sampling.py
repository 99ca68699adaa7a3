"""Before a new batch's first create, elepay is asked about some of its rows: a ledger that forgot is found out so."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from factories import Command, Simulator, ledger_of, new_row, new_worker, running_batch, whole, write_csv

from tasks.elepay.client import SourceList
from tasks.errors import ElepayError, Halted, Maintenance, NotSent, Refused, Throttled, Unclear
from tasks.ledger import Ledger
from tasks.models import Account, Batch, BatchState, Source, Stop, StopCode
from tasks.send.rate_limit import RateLimit, connect
from tasks.send.retry_policy import RetryPolicy
from tasks.send.sampling import Sampler
from tasks.stop_texts import sentence


class Elepay:
    """An elepay that lists what it is told to, or fails."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}  #: customer -> reference
        self.failure: ElepayError | None = None
        self.asked: list[str] = []

    def list_sources(self, customer_id: str, payment_method: str, *, fresh: bool = False) -> SourceList:
        assert fresh
        self.asked.append(customer_id)
        if self.failure is not None:
            raise self.failure
        reference = self.sources.get(customer_id)
        listed = [Source("src_1", "pending", False, payment_method, reference, has_metadata=True)] if reference else []
        return SourceList(listed, complete=True)


def sampled(ledger: Ledger, rows: int = 10, customers: str = "cus") -> int:
    """A batch whose sample is due."""
    reader = ledger.workers.add("elsewhere", 1, "", 60.0)
    batch = ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    new = [new_row(record, customer=f"{customers}_{record:06d}") for record in range(1, rows + 1)]
    ledger.rows.add(batch, new, again=False)
    ledger.lifecycle.start(batch, 100, sample=True)
    ledger.workers.end(reader)
    return batch


def sampler(ledger: Ledger, elepay: Elepay, redis_url: str, *, unreachable: float = 60.0, seed: int = 1) -> Sampler:
    return Sampler(
        ledger,
        elepay,  # type: ignore[arg-type]
        RateLimit(connect(redis_url), 10_000.0),
        RetryPolicy(unreachable, 60.0),
        sleep=lambda _seconds: None,
        dice=random.Random(seed),
    )


def test_nothing_is_claimed_before_the_sample_and_all_of_it_after(ledger: Ledger, redis_url: str) -> None:
    batch, elepay = sampled(ledger), Elepay()
    assert ledger.leases.claim(whole(batch), new_worker(ledger).number) == []
    assert sampler(ledger, elepay, redis_url).lets_go(whole(batch))
    assert len(set(elepay.asked)) == len(elepay.asked) == 5
    assert {"cus_000001", "cus_000002"} < set(elepay.asked)
    assert sampler(ledger, elepay, redis_url).lets_go(whole(batch))
    assert len(elepay.asked) == 5, "it is taken once"
    assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 10


def test_a_sample_falls_anywhere_in_the_file(ledger: Ledger) -> None:
    batch = sampled(ledger, 200)
    seen = {row.record for seed in range(20) for row in ledger.sampling.rows(batch, random.Random(seed))}
    assert {1, 2} < seen
    assert len({record // 50 for record in seen}) >= 4
    assert len(ledger.sampling.rows(sampled_small(ledger), random.Random(1))) == 5


def sampled_small(ledger: Ledger) -> int:
    return running_batch(ledger, [new_row(n, customer=f"small_{n}") for n in range(1, 6)])


@pytest.mark.parametrize("generation", ["", "-2"])
def test_a_source_that_the_ledger_does_not_know_pauses_the_batch(
    ledger: Ledger, redis_url: str, generation: str
) -> None:
    batch, elepay = sampled(ledger), Elepay()
    reference = ledger.queries.report_row(batch, 2).reference
    elepay.sources["cus_000002"] = reference + generation
    assert not sampler(ledger, elepay, redis_url).lets_go(whole(batch))
    found = ledger.batches.get(batch)
    assert (found.state, found.stop_code) == (BatchState.PAUSED, StopCode.FORGOTTEN)
    assert found.stop == Stop(StopCode.FORGOTTEN, {"unknown": 1, "sampled": 5, "batch": batch})
    ledger.lifecycle.change_state(batch, BatchState.RUNNING, None, only_from=[BatchState.PAUSED])
    assert ledger.leases.claim(whole(batch), new_worker(ledger).number) == [], "whoever resumes it"
    ledger.lifecycle.verify_from_now_on(batch)
    assert [row.look_up for row in ledger.leases.claim(whole(batch), new_worker(ledger).number)] == [True] * 10


def test_sources_of_others_and_of_known_rows_prove_nothing(ledger: Ledger, redis_url: str) -> None:
    batch, elepay = sampled(ledger), Elepay()
    elepay.sources = {f"cus_{n:06d}": reference for n, reference in enumerate(["", "x", "order 7", "-2"], 1)}
    assert sampler(ledger, elepay, redis_url).lets_go(whole(batch))
    assert ledger.batches.get(batch).state is BatchState.RUNNING


def test_small_batches_are_sampled_in_live_mode_only(ledger_url: str) -> None:
    for live, least in ((False, 5), (True, 1)):
        ledger = ledger_of(ledger_url, Account(live, f"https://{live}"))
        assert ledger.sampling.due_at(sampled(ledger, least, f"enough_{live}")) is not None
        if least > 1:
            assert ledger.sampling.due_at(sampled(ledger, least - 1, f"few_{live}")) is None
        ledger.close()


@pytest.mark.parametrize("failure", [NotSent, Throttled, Maintenance, Unclear])
def test_while_elepay_cannot_be_asked_the_batch_waits(
    ledger: Ledger, redis_url: str, failure: type[ElepayError]
) -> None:
    batch, elepay = sampled(ledger), Elepay()
    long = None if failure is Throttled else 60.0  # so long that the slice is not due below; a throttled fleet waits
    elepay.failure = failure("S001000", retry_after_seconds=long)
    before = ledger.now()
    asking = sampler(ledger, elepay, redis_url)
    assert not asking.lets_go(whole(batch))
    assert ledger.batches.get(batch).state is BatchState.RUNNING
    assert ledger.leases.claim(whole(batch), new_worker(ledger).number) == []
    assert (ledger.sampling.due_at(batch) or 0.0) > before
    if long is not None:
        assert ledger.dispatch.take_due() == [], "its slice is put off"
    elepay.failure = None
    ledger.sampling.put_off(batch, 0.0)
    assert asking.lets_go(whole(batch))


def test_a_wrong_key_and_an_elepay_out_of_reach_halt_the_batch(ledger: Ledger, redis_url: str) -> None:
    for failure, why in (
        (Halted("M004001", http_status=401), "the secret key is not valid"),
        (NotSent("connection_refused"), "elepay could not be reached"),
    ):
        batch, elepay = sampled(ledger), Elepay()
        elepay.failure = failure
        assert not sampler(ledger, elepay, redis_url, unreachable=1e-9).lets_go(whole(batch))
        halted: Batch = ledger.batches.get(batch)
        assert halted.state is BatchState.HALTED
        assert sentence(halted.stop).startswith(why)
        ledger.lifecycle.change_state(batch, BatchState.CANCELLED, None, only_from=[BatchState.HALTED])


def test_a_customer_that_elepay_does_not_know_has_no_source(ledger: Ledger, redis_url: str) -> None:
    batch, elepay = sampled(ledger), Elepay()
    elepay.failure = Refused("M002003", http_status=400)
    assert sampler(ledger, elepay, redis_url).lets_go(whole(batch))


def test_one_asks_and_the_others_wait(ledger: Ledger, redis_url: str) -> None:
    batch, elepay = sampled(ledger), Elepay()
    assert ledger.sampling.claim(batch, 30.0)
    assert not ledger.sampling.claim(batch, 30.0)
    ledger.dispatch.take_due()
    assert not sampler(ledger, elepay, redis_url).lets_go(whole(batch))
    assert elepay.asked == []
    ledger.sampling.end(batch)
    give_up = time.monotonic() + 15.0  # its slice was put off for a second, and not for the 20 of a lost message
    while not (due := ledger.dispatch.take_due()) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert [one.batch_id for one in due] == [batch]


# ------------------------------------------------------------------------------------------------------ as people type


def test_a_second_home_with_the_same_file_is_noticed_before_its_first_create(
    tmp_path: Path, simulator: Simulator
) -> None:
    """As the same user from another folder, or another user on another machine: an empty ledger of its own."""
    file = write_csv(tmp_path / "a.csv", 30)
    assert Command(tmp_path, simulator).json("run", file)["books"]["created"] == 30
    (tmp_path / "second").mkdir()
    second = Command(tmp_path / "second", simulator)
    said = second.json("run", file)
    assert (said["exit"], said["state"]) == (3, "paused")
    assert "5 of 5 rows" in said["state_reason"]
    plain = second("resume", 1)
    assert plain.returncode == 2
    assert "onboard resume 1 --verify-first" in plain.stderr
    assert second("approve", 1).returncode == 2
    assert second.json("run", file)["state"] == "paused", "the same file does not resume it either"
    statistics = simulator.statistics()
    assert statistics["requests"]["createSource"] == statistics["created"] == 30
    done = second.json("resume", 1, "--verify-first")
    assert (done["exit"], done["state"]) == (0, "finished")
    assert done["books"]["created"] == 30
    assert simulator.statistics()["requests"]["createSource"] == 30
    third = Command(tmp_path / "second", simulator, ONBOARD_VERIFY_FIRST=1, ONBOARD_HOME=tmp_path / "third")
    assert third.json("run", file)["books"]["created"] == 30
    assert third("run", "--again", file).returncode == 2
    assert simulator.statistics()["requests"]["createSource"] == 30


def test_a_list_that_fails_is_asked_for_again_and_not_the_whole_sample(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(list_500=1.0, max_faults_per_key=1)
    said = Command(tmp_path, simulator).json("run", write_csv(tmp_path / "a.csv", 30))
    assert (said["exit"], said["books"]["created"]) == (0, 30), said["stderr"]
    assert simulator.statistics()["requests"]["listSources"] == 2 * 5, "each of the five failed once"


def test_one_more_source_by_again_is_no_reason_to_stop(tmp_path: Path, simulator: Simulator) -> None:
    command, file = Command(tmp_path, simulator), write_csv(tmp_path / "a.csv", 6)
    assert command.json("run", file)["exit"] == 0
    asked = simulator.statistics()["requests"]["listSources"]
    assert asked == 5
    assert command.json("run", "--again", file)["books"]["created"] == 6
    assert simulator.statistics()["requests"]["listSources"] == 10

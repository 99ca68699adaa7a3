from __future__ import annotations

from simulator.ceiling import Ceiling
from simulator.state import SourceRecord, Sources
from simulator.tally import Arrivals
from simulator.validation import SourceFields


def record(customer_id: str = "c", reference: str | None = "r") -> SourceRecord:
    return SourceRecord(customer_id, "creditcard", "web", reference, live_mode=False)


def test_ids_lead_back_to_their_sources() -> None:
    sources = Sources()
    for n in range(500):
        sources.add(record(f"c{n}"), "pending", 0.0, None)
    ids = [sources.id_of(n) for n in range(500)]
    assert len(set(ids)) == 500
    assert all(len(each) == 28 and each.startswith("src_") for each in ids)
    assert [sources.position_of(each) for each in ids] == list(range(500))


def test_ids_that_were_never_given_lead_nowhere() -> None:
    sources = Sources()
    sources.add(record(), "pending", 0.0, None)
    for unknown in ("", "src_", "src_" + "0" * 24, "src_" + "z" * 24, "src_ " + "0" * 23, sources.id_of(1), "x" * 28):
        assert sources.position_of(unknown) is None
    assert sources.position_of(sources.id_of(0).upper()) is None


def test_another_start_gives_other_ids() -> None:
    assert Sources().id_of(0) != Sources().id_of(0)


def test_bodies_are_kept_only_if_given() -> None:
    sources = Sources()
    fields = SourceFields("creditcard", "web", "説明", {"a": "b"}, {"c": "d"})
    kept = sources.add(record(), "pending", 0.0, fields)
    bare = sources.add(record(), "pending", 0.0, None)
    assert sources.body(kept) == ("説明", {"a": "b"}, {"c": "d"})
    assert sources.body(bare) is None


def test_a_reference_is_doubled_while_two_sources_live() -> None:
    sources = Sources()
    sources.add(record("a", "r1"), "pending", 0.0, None)
    sources.add(record("b", None), "pending", 0.0, None)
    twin = sources.add(record("a", "r1"), "pending", 0.0, None)
    sources.add(record("c", "r2"), "pending", 0.0, None)
    assert list(sources.doubled_references()) == ["r1"]
    sources.set_status(twin, "deleted")
    assert list(sources.doubled_references()) == []
    assert (sources.references, sources.without_reference) == (2, 1)
    assert sources.of_customer("a") == (0, 2)
    assert sources.of_customer("nobody") == ()


def test_the_worst_second_slides() -> None:
    arrivals = Arrivals()
    for at in (10.0, 10.6, 10.7, 11.1, 11.5, 11.6, 13.0):
        arrivals.add(at)
    assert arrivals.worst_second() == 4  # 10.6, 10.7, 11.1, 11.5
    assert arrivals.per_second() == [[10, 3], [11, 3], [13, 1]]
    for at in (13.1, 13.2, 13.3, 13.4):
        arrivals.add(at)
    assert arrivals.worst_second() == 5
    assert (arrivals.first(), arrivals.last()) == (10.0, 13.4)


def test_a_second_apart_is_not_the_same_second() -> None:
    arrivals = Arrivals()
    arrivals.add(5.0)
    arrivals.add(6.0)
    assert arrivals.worst_second() == 1
    assert Arrivals().worst_second() == 0
    assert Arrivals().first() is None


def test_a_soft_ceiling_lets_in_as_many_as_it_says() -> None:
    ceiling = Ceiling()
    admitted = [ceiling.admits(n / 100, 10, hard=False) for n in range(200)]
    assert sum(admitted[:100]) == sum(admitted[100:]) == 10
    assert all(ceiling.admits(9.0, 0, hard=True) for _ in range(100))


def test_a_hard_ceiling_stays_shut_for_who_does_not_slow_down() -> None:
    ceiling = Ceiling()
    admitted = [ceiling.admits(n / 100, 10, hard=True) for n in range(300)]
    assert sum(admitted) == 10
    assert ceiling.admits(4.0, 10, hard=True)

from __future__ import annotations

import random
from collections import Counter

from simulator.faults import CREATE_FAULTS, SLOTS, Faults, draw, number, slot_of
from simulator.profile import Profile, changed

KEYS = [f"cus_{n}\0creditcard\0web\0ref{n}" for n in range(2000)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def faults_with(seed: int = 1, clock: Clock | None = None, **knobs: object) -> Faults:
    return Faults(changed(Profile(), knobs), seed, clock or Clock())


def history(faults: Faults, visits: list[str]) -> dict[str, list[str | None]]:
    """What happened to each key, attempt by attempt."""
    seen: dict[str, list[str | None]] = {}
    for key in visits:
        seen.setdefault(key, []).append(faults.strike_create(key, "creditcard").fault)
    return seen


def test_the_order_of_arrival_does_not_matter() -> None:
    knobs = {"throttled": 0.2, "commit_then_drop_connection": 0.2, "html_502": 0.2}
    visits = KEYS * 3
    shuffled = random.Random(4).sample(visits, len(visits))
    assert history(faults_with(**knobs), visits) == history(faults_with(**knobs), shuffled)


def test_another_seed_is_another_night() -> None:
    assert history(faults_with(1, html_502=0.3), KEYS) != history(faults_with(2, html_502=0.3), KEYS)


def test_shares_are_kept() -> None:
    struck = Counter(faults[0] for faults in history(faults_with(html_502=0.1, throttled=0.3), KEYS).values())
    assert 0.27 < struck["throttled"] / len(KEYS) < 0.33
    assert 0.05 < struck["html_502"] / len(KEYS) < 0.09  # 0.1 of those that were not throttled


def test_the_share_of_one_fault_leaves_the_others_alone() -> None:
    few = history(faults_with(html_502=0.3), KEYS)
    more = history(faults_with(html_502=0.3, throttled=0.1), KEYS)
    assert all(few[key] == more[key] for key in KEYS if more[key] != ["throttled"])


def test_no_row_is_unlucky_for_ever() -> None:
    seen = history(faults_with(html_502=1.0, max_faults_per_key=2), KEYS[:10] * 4)
    assert set(map(tuple, seen.values())) == {("html_502", "html_502", None, None)}


def test_a_refused_row_is_refused_at_every_attempt() -> None:
    faults = faults_with(refuse={"U003005": 0.02, "M002003": 0.01})
    first = {key: faults.refusal(key) for key in KEYS}
    assert first == {key: faults.refusal(key) for key in reversed(KEYS)}
    counted = Counter(first.values())
    assert 20 <= counted["U003005"] <= 60
    assert 8 <= counted["M002003"] <= 35


def test_a_window_opens_and_closes_by_the_clock_of_the_first_create() -> None:
    clock = Clock()
    faults = faults_with(clock=clock, S002000_window={"share": 1.0, "after_seconds": 2, "for_seconds": 4})

    def at(seconds: float) -> str | None:
        clock.now = 1000.0 + seconds
        return faults.strike_create("key", "creditcard").fault

    assert faults.strike_look_up("listSources", "early").fault is None
    assert [at(0), at(1.9), at(2), at(5.9), at(6), at(100)] == [None, None, *["S002000_window"] * 2, None, None]


def test_a_window_is_for_look_ups_as_well_and_not_bounded() -> None:
    faults = faults_with(S002000_window=1.0)
    assert {faults.strike_look_up("retrieveSource", "same").fault for _ in range(9)} == {"S002000_window"}


def test_a_window_may_begin_after_so_many_creates() -> None:
    clock = Clock()
    faults = faults_with(clock=clock, html_502={"share": 1.0, "after_creates": 3, "for_seconds": 1})
    seen = [faults.strike_create(key, "creditcard").fault for key in KEYS[:5]]
    clock.now += 1
    assert [*seen, faults.strike_create(KEYS[5], "creditcard").fault] == [None] * 3 + ["html_502"] * 2 + [None]


def test_a_fault_set_in_mid_run_counts_from_then() -> None:
    clock = Clock()
    faults = faults_with(clock=clock)
    faults.strike_create("key", "creditcard")
    clock.now += 100
    faults.change(changed(Profile(), {"S002000_window": {"share": 1.0, "after_seconds": 1, "for_seconds": 2}}))
    assert faults.strike_create("key", "creditcard").fault is None
    clock.now += 1
    assert faults.strike_create("key", "creditcard").fault == "S002000_window"
    clock.now += 2
    assert faults.strike_create("key", "creditcard").fault is None


def test_a_providers_maintenance_closes_its_methods_only() -> None:
    faults = faults_with(S002001_window=1.0, S002001_methods=["paypay"])
    assert faults.strike_create("one", "paypay").fault == "S002001_window"
    assert faults.strike_create("two", "creditcard").fault is None


def test_lists_fail_alone() -> None:
    faults = faults_with(list_500=1.0)
    assert faults.strike_look_up("listSources", "a").fault == "list_500"
    assert faults.strike_look_up("retrieveSource", "a").fault is None
    assert faults.strike_create("a", "creditcard").fault is None


def test_distinct_rows_are_counted_without_any_fault() -> None:
    faults = faults_with()
    history(faults, KEYS[:7] * 2)
    assert faults.distinct_keys == 7


def test_every_fault_has_a_place_of_its_own_in_the_draw() -> None:
    drawn = draw(1, "key", 0, SLOTS)
    assert len({number(drawn, slot) for slot in range(SLOTS)}) == SLOTS
    slots = [slot_of(position) for position in range(len(CREATE_FAULTS))]
    assert len(set(slots)) == len(slots)
    assert {19, 20}.isdisjoint(slots)  # the places of the jitter and of the variant
    assert max(slots) < SLOTS


def test_a_longer_draw_begins_like_a_short_one() -> None:
    short, long = draw(1, "key", 0), draw(1, "key", 0, SLOTS)
    assert [number(short, slot) for slot in range(21)] == [number(long, slot) for slot in range(21)]


def test_the_new_faults_leave_the_old_ones_of_a_seed_alone() -> None:
    few = history(faults_with(html_502=0.3), KEYS)
    more = history(faults_with(html_502=0.3, odd_json=0.3), KEYS)
    assert all(few[key] == more[key] for key in KEYS if more[key] != ["odd_json"])
    struck = Counter(each[0] for each in more.values())
    assert 0.17 < struck["odd_json"] / len(KEYS) < 0.25  # 0.3 of those that html_502 had left


def test_a_page_is_a_window_for_those_in_its_scope() -> None:
    for scope, answered in (
        ("all", ["createSource", "listSources", "retrieveSource", "unknownPath"]),
        ("creates", ["createSource"]),
        ("lists", ["listSources"]),
    ):
        faults = faults_with(page=1.0, page_scope=scope)
        operations = ["createSource", "listSources", "retrieveSource", "unknownPath"]
        seen = [each for each in operations for _ in range(5) if faults.strike_page(each, "path", b"")]
        assert seen == [each for each in answered for _ in range(5)]


def test_a_page_opens_and_closes_by_the_creates_that_come() -> None:
    clock = Clock()
    faults = faults_with(clock=clock, page={"share": 1.0, "after_creates": 2, "for_seconds": 3})
    seen = []
    for number_of_create in range(5):
        struck = faults.strike_page("createSource", "path", b"%d" % number_of_create)
        seen.append(struck is not None)
        if struck is None:
            faults.strike_create(f"{number_of_create}", "creditcard")
    clock.now += 3
    assert seen == [False, False, True, True, True]
    assert faults.strike_page("createSource", "path", b"") is None
    timed = faults_with(page={"share": 1.0, "for_seconds": 3})
    assert timed.strike_page("listSources", "path", b"") is None
    assert timed.strike_page("createSource", "path", b"") is not None


def test_a_share_of_a_page_is_drawn_for_each_request() -> None:
    faults = faults_with(page=0.3)
    struck = [faults.strike_page("createSource", key, b"{}") is not None for key in KEYS]
    assert 0.26 < sum(struck) / len(KEYS) < 0.34
    again = faults_with(page=0.3)
    assert struck == [again.strike_page("createSource", key, b"{}") is not None for key in KEYS]

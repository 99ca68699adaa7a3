from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

import simulator.profile as profile_module
from simulator.catalogue import error_codes
from simulator.faults import CREATE_FAULTS, LOOK_UP_FAULTS, PAGE
from simulator.profile import (
    Fault,
    Profile,
    ProfileError,
    as_plain,
    changed,
    fault_names,
    knobs,
    load_profile,
    profile_names,
)


def test_the_bundled_profiles_are_these() -> None:
    assert profile_names() == [
        "clean", "hostile", "latency200", "latency50", "maintenance", "rough_night", "storm", "wrong_answers",
    ]  # fmt: skip


@pytest.mark.parametrize("name", profile_names())
def test_every_bundled_profile_loads_and_refuses_with_known_codes(name: str) -> None:
    profile = load_profile(name)
    assert profile.refuse.keys() <= error_codes().keys()
    assert sum(profile.refuse.values()) < 0.1


def test_clean_is_the_default() -> None:
    assert load_profile("clean") == Profile()


def test_the_demo_stays_a_demo() -> None:
    profile = load_profile("rough_night")
    assert 20 <= profile.latency_ms <= profile.latency_ms + profile.jitter_ms <= 40
    assert profile.commit_then_drop_connection.share == 0.03
    assert profile.max_requests_per_second > 0
    assert 0.015 <= sum(profile.refuse.values()) <= 0.025


def test_maintenance_is_a_window() -> None:
    assert load_profile("maintenance").S002000_window == Fault(1.0, after_seconds=2, for_seconds=4)


def test_an_unknown_knob_is_named() -> None:
    with pytest.raises(ProfileError, match="unknown knob 'latncy_ms'"):
        changed(Profile(), {"latency_ms": 1, "latncy_ms": 2})


def test_an_unknown_key_in_a_file_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("latency_ms = 5\nhtml_503 = 0.1\n", "utf-8")
    with pytest.raises(ProfileError, match=r"mine\.toml: unknown knob 'html_503'"):
        load_profile(file)


def test_a_file_of_ones_own_is_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("latency_ms = 5\nrefuse = {U003005 = 0.5}\nlist_500 = {share = 1, for_seconds = 2}\n", "utf-8")
    profile = load_profile(file)
    assert (profile.latency_ms, profile.refuse) == (5.0, {"U003005": 0.5})
    assert profile.list_500 == Fault(1.0, for_seconds=2.0)


@pytest.mark.parametrize("text", ["latency_ms = ", "latency_ms = '\xff'"])
def test_a_file_that_is_no_toml_is_an_error_of_its_own(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text, "latin-1")
    with pytest.raises(ProfileError, match=r"broken\.toml cannot be read"):
        load_profile(file)


def test_a_profile_that_does_not_exist_is_answered_by_those_that_do() -> None:
    with pytest.raises(ProfileError, match=r"no profile 'smooth'; there are: clean, hostile"):
        load_profile("smooth")


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("latency_ms", "50"),
        ("latency_ms", -1),
        ("latency_ms", math.nan),
        ("latency_ms", True),
        ("live", 1),
        ("max_faults_per_key", 1.5),
        ("list_truncate_at", -1),
        ("accepted_keys", "sk_test_a"),
        ("accepted_keys", [1]),
        ("status_on_create", "deleted"),
        ("html_502", 1.5),
        ("html_502", "often"),
        ("html_502", {"share": 0.1, "until": 3}),
        ("html_502", {"share": 0.1, "for_seconds": "long"}),
        ("refuse", {"U003005": 2}),
        ("bare_statuses", [299]),
        ("bare_statuses", [600]),
        ("bare_statuses", ["403"]),
        ("bare_statuses", []),
        ("page_statuses", [199]),
        ("replica_lags_ms", [-1]),
        ("replica_lags_ms", 5),
        ("renamed_methods", {"paypay": 1}),
        ("renamed_methods", ["paypay"]),
        ("page_scope", "some"),
        ("retry_after_form", "words"),
        ("refuse", ["U003005"]),
    ],
)
def test_a_value_that_does_not_fit_names_its_knob(knob: str, value: object) -> None:
    with pytest.raises(ProfileError, match=f"knob '{knob}'"):
        changed(Profile(), {knob: value})


def test_plain_values_become_knobs() -> None:
    profile = changed(
        Profile(),
        {"latency_ms": 5, "list_truncate_at": 3, "disabled_methods": ["paypay"], "html_502": 0.5},
    )
    assert profile.latency_ms == 5.0
    assert profile.list_truncate_at == 3
    assert profile.disabled_methods == ("paypay",)
    assert profile.html_502 == Fault(0.5)
    assert changed(profile, {"list_truncate_at": None}).list_truncate_at is None


def test_numbers_and_names_come_in_lists_and_tables_as_well() -> None:
    profile = changed(
        Profile(),
        {"bare_statuses": [300, 520, 599], "replica_lags_ms": [0, 20.5], "renamed_methods": {"paypay": "alipayplus"}},
    )
    assert profile.bare_statuses == (300, 520, 599)
    assert profile.replica_lags_ms == (0.0, 20.5)
    assert profile.renamed_methods == {"paypay": "alipayplus"}


def test_keys_stay_secret_when_the_knobs_are_shown() -> None:
    profile = changed(Profile(), {"accepted_keys": ["sk_test_secret"]})
    assert as_plain(profile)["accepted_keys"] == 1
    assert "sk_test_secret" not in str(as_plain(profile))


def test_every_fault_is_drawn_somewhere() -> None:
    assert {*CREATE_FAULTS, *LOOK_UP_FAULTS, PAGE} == set(fault_names())


def test_every_knob_has_its_sentence() -> None:
    lines = Path(profile_module.__file__).read_text("utf-8").splitlines()
    for knob in (*knobs(), *(each.name for each in dataclasses.fields(Fault))):
        declarations = [line for line in lines if line.startswith(f"    {knob}: ")]
        assert len(declarations) == 1, knob
        assert "#: " in declarations[0], knob

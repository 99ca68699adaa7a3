"""What is kept of an answer: lists, status, payment methods; never a card or a credential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from elepay_calls import REQUEST, client, failure_of
from factories import KEY, Simulator
from raw_server import RawServer, http, source_of

from tasks.elepay.client import SourceList
from tasks.errors import (
    Refused,
    Unclear,
)
from tasks.models import Source, SourceRequest


def test_neither_credential_nor_card_data_is_kept(simulator: Simulator, calls: Callable[..., Source]) -> None:
    simulator.control(credential_in_lists=True, credential_on_retrieve=True)
    told = repr(calls(simulator.url))
    api = client(simulator.url)
    told += repr(api.list_sources("cus_1", "creditcard"))
    told += repr(api)
    api.close()
    for word in ("credential", "TARO", "cardInfo", "last4", "Membership", KEY):
        assert word not in told


def test_a_list_is_complete_only_if_elepay_says_so(simulator: Simulator) -> None:
    api = client(simulator.url)
    for number in range(3):
        api.create_source(REQUEST, f"ref_{number}")
    api.create_source(SourceRequest("cus_1", "paypay", "ios"), "other")
    listed = api.list_sources("cus_1", "creditcard")
    assert listed.complete
    assert [source.reference for source in listed.sources] == ["ref_0", "ref_1", "ref_2"]
    assert all(source.has_metadata for source in listed.sources)
    simulator.control(list_truncate_at=2)
    listed = api.list_sources("cus_1", "creditcard")
    assert (len(listed.sources), listed.complete) == (2, False)
    simulator.control(list_truncate_at=None, list_metadata=False)
    listed = api.list_sources("cus_1", "creditcard")
    assert [(source.reference, source.has_metadata) for source in listed.sources] == [(None, False)] * 3
    assert api.list_sources("cus_2", "creditcard") == SourceList([], complete=True)
    api.close()


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        ({"total": 1, "sources": [source_of()]}, True),
        ({"total": 2, "sources": [source_of()]}, False),
        ({"sources": [source_of()]}, False),
        ({"total": "1", "sources": [source_of()]}, False),
        ({"total": None, "sources": []}, False),
        ({"total": 0, "sources": []}, True),
        ({"total": 2, "sources": [source_of(), None]}, False),
        ({"total": 1, "sources": [{"status": "x"}]}, False),
    ],
)
def test_a_list_whose_count_does_not_fit_is_incomplete(content: dict[str, Any], complete: bool) -> None:
    with RawServer(http(200, content)) as server:
        api = client(server.url)
        assert api.list_sources("cus_1", "creditcard").complete is complete
        api.close()


@pytest.mark.parametrize("content", [{}, {"total": 0}, {"sources": None}, {"total": 1, "sources": {"id": "src_1"}}, []])
def test_a_list_that_is_none_is_unclear(content: Any) -> None:
    with RawServer(http(200, content)) as server:
        api = client(server.url)
        failure = failure_of(api.list_sources, "cus_1", "creditcard")
        assert (type(failure), failure.code) == (Unclear, "unreadable_answer")
        api.close()


def test_metadata_of_a_strange_shape_carries_no_reference() -> None:
    sources = [source_of(metadata=odd) for odd in (None, [], "onboarding_ref", {}, {"onboarding_ref": 5}, {"a": "b"})]
    with RawServer(http(200, {"total": 6, "sources": sources})) as server:
        api = client(server.url)
        listed = api.list_sources("cus_1", "creditcard")
        api.close()
    assert [source.reference for source in listed.sources] == [None] * 6
    assert [source.has_metadata for source in listed.sources] == [False, False, False, False, True, True]


def test_the_status_is_asked_for_by_the_light_call(simulator: Simulator) -> None:
    api = client(simulator.url)
    source = api.create_source(REQUEST, "ref_1")
    simulator.post(f"sources/{source.id}/status", status="inactive")
    assert api.retrieve_source_status(source.id) == "inactive"
    assert type(failure_of(api.retrieve_source_status, "src_none")) is Refused
    api.close()
    assert "retrieveSource" not in simulator.statistics()["requests"]


def test_payment_methods_tell_which_can_hold_sources(simulator: Simulator) -> None:
    simulator.control(disabled_methods=["paypay"], single_source_methods=["paidy"])
    api = client(simulator.url)
    methods = {method.name: method for method in api.list_payment_methods()}
    api.close()
    assert "paypay" not in methods
    assert (methods["creditcard"].holds_sources, methods["creditcard"].holds_several) == (True, True)
    assert (methods["paidy"].holds_sources, methods["paidy"].holds_several) == (True, False)
    assert methods["konbini"].holds_sources is False
    assert "ios" in methods["creditcard"].resources


def test_payment_methods_of_a_strange_shape_say_nothing() -> None:
    listed = [
        {"paymentMethod": "creditcard"},
        {"paymentMethod": "paidy", "channelProperties": {"isSupportSource": "y"}},
    ]
    with RawServer(http(200, {"paymentMethods": [*listed, {}, None, "x"]})) as server:
        api = client(server.url)
        assert [(m.name, m.resources, m.holds_sources) for m in api.list_payment_methods()] == [
            ("creditcard", (), None),
            ("paidy", (), None),
        ]
        api.close()

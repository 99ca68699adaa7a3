"""How elepay is asked: headers, addresses, proxies, connections."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from elepay_calls import CREATED, REQUEST, client, failure_of
from factories import KEY, Simulator
from raw_server import RawServer, http, source_of

from tasks.errors import (
    ElepayError,
    Halted,
    Unclear,
)
from tasks.models import Source, SourceRequest


def test_the_headers_name_key_language_and_ourselves(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        calls(server.url)
        (head,) = server.heads
    assert head[""] == "POST /customers/cus_1/sources HTTP/1.1"
    assert head["authorization"] == f"Bearer {KEY}"
    assert head["accept-language"] == "en"
    assert head["user-agent"].startswith("elepay-onboarding/")
    assert head["content-type"] == "application/json;charset=utf-8"
    assert head["host"] == f"127.0.0.1:{server.port}"
    assert KEY not in head[""]


@pytest.mark.parametrize(
    ("customer", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("a%2Fb", "a%252Fb"),
        ("../payment-methods", "..%2Fpayment-methods"),
        ("会員", "%E4%BC%9A%E5%93%A1"),
        ("a&b=c;d", "a%26b%3Dc%3Bd"),
        ("a\\b", "a%5Cb"),
        ("a@b:c", "a%40b%3Ac"),
    ],
)
def test_an_id_stays_one_segment_of_the_path(calls: Callable[..., Source], customer: str, segment: str) -> None:
    with RawServer(CREATED) as server:
        calls(server.url, SourceRequest(customer, "creditcard", "ios"))
        assert server.heads[0][""] == f"POST /customers/{segment}/sources HTTP/1.1"
        api = client(server.url)
        with pytest.raises(Unclear):
            api.list_sources(customer, "a&b")
        assert server.heads[1][""] == f"GET /customers/{segment}/sources?paymentMethod=a%26b HTTP/1.1"
        assert "content-length" not in server.heads[1]
        server.answer = http(200, {"id": customer, "status": "pending"})
        assert api.retrieve_source_status(customer) == "pending"
        assert server.heads[2][""] == f"GET /sources/{segment}/status HTTP/1.1"
        api.close()


def test_ids_with_odd_characters_arrive_as_they_are(simulator: Simulator) -> None:
    api = client(simulator.url)
    odd = "a/b?c#d%2F 会"
    created = api.create_source(SourceRequest(odd, "creditcard", "ios"), "ref_1")
    assert [source.id for source in api.list_sources(odd, "creditcard").sources] == [created.id]
    api.close()


def test_an_address_with_a_path_is_kept(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        calls(f"{server.url}/gateway/elepay/")
        assert server.heads[0][""] == "POST /gateway/elepay/customers/cus_1/sources HTTP/1.1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(calls: Callable[..., Source], status: int) -> None:
    with RawServer(CREATED) as other, RawServer(http(status, b"", f"Location: {other.url}/x")) as server:
        failure = failure_of(calls, server.url)
        assert (type(failure), failure.code) == (Halted, f"http_{status}")
        assert (len(server.requests), len(other.requests)) == (1, 0)


def test_proxies_of_the_environment_are_ignored_unless_asked_for(
    calls: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with RawServer(CREATED) as server, RawServer(http(407)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert calls(server.url).id == "src_1"
        assert proxy.requests == []
        failure = failure_of(calls, server.url, trust_env=True)
        assert (type(failure), failure.code) == (Halted, "http_407")
        assert len(proxy.requests) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert calls(server.url, trust_env=True).id == "src_1"


def test_credentials_of_a_netrc_do_not_replace_the_key(
    calls: Callable[..., Source], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(CREATED) as server:
        calls(server.url)
        assert server.heads[0]["authorization"] == f"Bearer {KEY}"


def test_one_connection_serves_many_requests_also_after_errors(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        api = client(server.url)
        for at, answer in enumerate([201, 400, 502, 201] * 3):
            fields = source_of(id=f"src_{at}") if answer == 201 else {"errorCode": "M005000", "requestId": f"req_{at}"}
            server.answer = http(answer, fields)
            with suppress(ElepayError):
                api.create_source(REQUEST, f"ref_{at}")
        api.close()
        assert (len(server.requests), server.connections) == (12, 1)


def test_one_client_serves_many_threads(simulator: Simulator) -> None:
    simulator.control(latency_ms=20)
    api = client(simulator.url)
    ids: list[str] = []

    def create(thread: int) -> None:
        for number in range(10):
            request = SourceRequest(f"cus_{thread}_{number}", "creditcard", "ios")
            ids.append(api.create_source(request, f"ref_{thread}_{number}").id)

    threads = [threading.Thread(target=create, args=(thread,)) for thread in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    api.close()
    assert len(set(ids)) == 200
    assert simulator.statistics()["references"] == {"total": 200, "doubled": [], "doubled_count": 0}

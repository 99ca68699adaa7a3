"""A whole run whose answers are spoilt between elepay and us: no traceback, no row lost, no second source."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from factories import KEY, Command, Simulator, write_csv
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutated_answers import Drawn, answers
from raw_server import Listener, read_request

#: Each takes half a minute: what is refused or throttled for a time is waited for.
RUNS = 5
ROWS, SPOILT = 12, 30


class Spoiler(Listener):
    """Brings every request to the simulator, and spoils the first answers: one, then one honest, and so on."""

    def __init__(self, simulator: Simulator, drawn: Sequence[Drawn]) -> None:
        self._port = int(simulator.url.rpartition(":")[2])
        self._drawn = iter(drawn)
        self._turns = itertools.count()
        super().__init__()

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            while (request := read_request(connection)) is not None:
                raw = self._spoilt(request, self._brought(request))
                connection.sendall(raw)
                if b"connection: close" in raw.lower():
                    return

    def _brought(self, request: bytes) -> tuple[int, bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        elepay = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with closing(elepay):
            elepay.request(method, path, body, dict(line.split(": ", 1) for line in lines))
            answer = elepay.getresponse()
            return answer.status, answer.read()

    def _spoilt(self, request: bytes, honest: tuple[int, bytes]) -> bytes:
        drawn = next(self._drawn, None) if next(self._turns) % 2 == 0 else None
        if drawn is None:
            lines = (f"HTTP/1.1 {honest[0]} Honest", f"Content-Length: {len(honest[1])}", "", "")
            return "\r\n".join(lines).encode() + honest[1]
        return drawn.answer(**ids(request, json.loads(honest[1])))


def ids(request: bytes, honest: dict[str, Any]) -> dict[str, str]:
    """Return what a spoilt answer may name of its request and of the honest answer."""
    reference = re.search(rb'"onboarding_ref":"(\w+)"', request)
    return {
        "src": str(honest.get("id", "src_1")),
        "cus": request.split(b"/")[2].decode(),
        "ref": reference[1].decode() if reference else "",
        "req": str(honest.get("requestId", "req_1")),
    }


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def command_of(folder: Path, url: str) -> Command:
    settings = {
        "ELEPAY_BASE_URL": url,
        "ONBOARD_CONNECT_TIMEOUT_SECONDS": 1,
        "ONBOARD_READ_TIMEOUT_SECONDS": 1,
        "ONBOARD_TOTAL_TIMEOUT_SECONDS": 2,
        "ONBOARD_LOOK_UP_DELAY_SECONDS": 0.1,
        "ONBOARD_LIST_LAG_SECONDS": 0.1,
        "ONBOARD_UNREACHABLE_SECONDS": 5,
        "ONBOARD_MAINTENANCE_SECONDS": 5,
    }
    return Command(folder, **settings)


def begun(command: Command, file: Path) -> dict[str, Any]:
    """Run a file until it is accepted: before, elepay is asked whether it takes the key."""
    for _ in range(5):
        said = command.json("run", file)
        if "books" in said:
            break
        assert said["exit"] in (2, 3), said
        assert "Traceback" not in said["stderr"]
    return said


def expect_in_order(command: Command, said: dict[str, Any], simulator: Simulator) -> None:
    """Expect what holds after any answers: an exit code of ours, all rows counted, reports, no secret, no double."""
    counts = said["books"]
    assert said["exit"] in (0, 1, 3), said
    assert counts["balance"]
    assert counts["records"] == ROWS == sum(counts[name] for name in ("created", "refused", "unclear", "open"))
    texts = [said["stderr"], json.dumps(said)]
    texts += [path.read_text("utf-8", "replace") for path in command.home.rglob("*") if path.suffix in TEXTS]
    for text in texts:
        for word in ("Traceback", "unexpected failure", KEY, "TARO", "cred_0123456789"):
            assert word not in text
    assert Path(said["reports"]["results"]).read_text("utf-8").count("\n") == ROWS + 1
    assert simulator.statistics()["references"]["doubled_count"] == 0


TEXTS = (".csv", ".json", ".log", ".html", ".txt")


@pytest.mark.resilience
@settings(
    max_examples=RUNS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(answers(), min_size=SPOILT, max_size=SPOILT))
def test_a_run_into_spoilt_answers_loses_no_row(
    running: Simulator, tmp_path_factory: pytest.TempPathFactory, drawn: list[Drawn]
) -> None:
    running.post("reset", profile="clean", seed=1)
    folder = tmp_path_factory.mktemp("run")
    file = write_csv(folder / "a.csv", ROWS)
    with Spoiler(running, drawn) as elepay:
        command = command_of(folder, elepay.url)
        said = begun(command, file)
        expect_in_order(command, said, running)
        for _ in range(5):
            if said["exit"] != 3:
                break
            said = command.json("resume", said["batch"])
            expect_in_order(command, said, running)
    assert said["exit"] != 3, said
    assert said["books"]["open"] == 0

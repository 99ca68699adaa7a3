"""The control room of the simulator: its books, its knobs, its start and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
import requests
from factories import ROOT, wait_until
from simulator_calls import AUTHORIZATION, Client


def test_the_books(elepay: Client) -> None:
    before = time.time()
    elepay.create(reference="r1")
    elepay.create("cus_2", reference=None)
    elepay.create("missing_1")
    elepay.sources()
    counted = elepay.simulator.statistics()
    first, last = counted.pop("first_request_at"), counted.pop("last_request_at")
    assert (
        before - 1
        <= first
        <= counted.pop("first_create_at")
        <= counted.pop("last_create_at")
        <= last
        <= time.time() + 1
    )
    assert sum(count for _, count in counted.pop("requests_per_second")) == 4
    assert sum(count for _, count in counted.pop("creates_per_second")) == 3
    assert counted == {
        "created": 2,
        "references": {"total": 1, "doubled": [], "doubled_count": 0},
        "without_reference": 1,
        "requests": {"createSource": 3, "listSources": 1},
        "answers": {"201": 2, "M002003": 1, "200": 1},
        "faults": {},
        "throttled": 0,
        "wrong_auth": 0,
        "missing_auth": 0,
        "worst_second": 4,
        "worst_second_creates": 3,
        "distinct_keys_seen": 3,
    }
    shown = requests.get(elepay.simulator.url + "/_sim/sources?offset=1&limit=5", timeout=60).json()
    assert shown["total"] == 2
    assert [(each["customerId"], each["reference"], each["status"]) for each in shown["sources"]] == [
        ("cus_2", None, "pending")
    ]


def test_knobs_at_run_time(elepay: Client) -> None:
    url = elepay.simulator.url + "/_sim"
    wrong = requests.patch(url + "/control", json={"latency_ms": 5, "latncy_ms": 5}, timeout=60)
    assert (wrong.status_code, wrong.text) == (400, "unknown knob 'latncy_ms'")
    assert requests.get(url + "/control", timeout=60).json()["latency_ms"] == 0.0
    assert requests.patch(url + "/control", json={"html_502": 0.25}, timeout=60).json()["html_502"]["share"] == 0.25
    assert requests.post(url + "/control", data=b"[", timeout=60).status_code == 400
    assert requests.post(url + "/reset", json={"profile": "smooth"}, timeout=60).status_code == 400
    assert requests.post(url + "/sources/src_x/status", json={"status": "active"}, timeout=60).status_code == 404
    assert requests.post(url + "/offline", json={"seconds": "long"}, timeout=60).status_code == 400
    reset = requests.post(url + "/reset", json={"profile": "clean", "seed": 1}, timeout=60)
    assert reset.json() == {"status": "ok", "profile": "clean", "seed": 1}
    assert requests.get(url + "/health", timeout=60).json() == reset.json()


def test_offline_refuses_connections_and_comes_back(elepay: Client) -> None:
    address = ("127.0.0.1", int(elepay.simulator.url.rpartition(":")[2]))
    elepay.create()
    elepay.simulator.post("offline", seconds=1.0)
    time.sleep(0.2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=2)
    with pytest.raises(requests.ConnectionError):  # the open connection was cut as well
        elepay.create("cus_2")

    def answers() -> bool:
        try:
            return requests.get(elepay.simulator.url + "/_sim/health", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(answers)
    assert elepay.sources()["total"] == 1
    assert elepay.sources("cus_2")["total"] == 0


# The process


def test_it_says_one_line_and_stops_at_once() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with ExitStack() as stack:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "simulator", "--port", "0", "--profile", "clean", "--seed", "3"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            url = line.split()[3]
            assert line == f"elepay simulator on {url}  profile=clean seed=3\n"
            hanging = threading.Thread(target=_hang, args=(url,))
            hanging.start()
            wait_until(lambda url=url: _created(url) == 1)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)  # the request would hang for ten minutes
            hanging.join(60)
            assert (process.returncode, out, err) == (0, "", "")


def _hang(url: str) -> None:
    requests.post(url + "/_sim/control", json={"commit_then_hang": 1.0, "hang_seconds": 600}, timeout=60)
    body = {"paymentMethod": "paidy", "resource": "web"}
    with pytest.raises(requests.ConnectionError):
        requests.post(url + "/customers/c/sources", json=body, headers=AUTHORIZATION, timeout=300)


def _created(url: str) -> int:
    created: int = requests.get(url + "/_sim/statistics", timeout=60).json()["created"]
    return created


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "smooth"], "no profile 'smooth'"),
        (["--host", "192.0.2.1"], "the loopback only"),
    ],
)
def test_it_does_not_start_wrongly(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--port", "0", *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "simulator", "--port", str(taken.getsockname()[1])],
            capture_output=True, text=True, timeout=60, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode != 0
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr

"""A fleet's night with a watcher, between whose machines the network does what it likes.

`NETWORK_SECONDS=600 .venv/bin/python -m pytest tests/resilience/test_networks.py` lets it do so for ten minutes, in
another order each time.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import factories
import pytest
from conftest import Night
from factories import wait_until, write_csv
from judge import at_the_simulator, rows_of
from machines import Valkey, pause
from proxy import Mode, Proxy
from test_watcher import Drop, watch, watcher_on

#: For so long the network does what it likes, and rows of each file that is dropped meanwhile.
SECONDS = float(os.environ.get("NETWORK_SECONDS", "25" if factories.searches_at_full_length else "15"))
ROWS = 100
#: The longest that one of its moods lasts.
LONGEST_SECONDS = 6.0 if SECONDS < 60 else 40.0


@pytest.mark.representative
def test_whatever_the_network_does_everything_ends_by_itself(
    night: Night, valkey: Valkey, postgres_url: str, postgres_folder: str
) -> None:
    drop, dice = Drop(night.folder / "drop"), random.Random() if "NETWORK_SECONDS" in os.environ else night.dice
    night.simulator.control(latency_ms=30)
    socket = f"{postgres_folder.split(maxsplit=1)[0].removeprefix('host=')}/.s.PGSQL.5432"
    database = postgres_url.split("@/")[1].split("?", maxsplit=1)[0]
    with ExitStack() as stack:
        ledger, redis, elepay = (
            stack.enter_context(Proxy(target)) for target in (socket, valkey.port, urlsplit(night.simulator.url).port)
        )
        command = watcher_on(
            night,
            drop,
            LEDGER_URL=f"postgresql+psycopg://postgres@127.0.0.1:{ledger.port}/{database}",
            REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
            ELEPAY_BASE_URL=f"http://127.0.0.1:{elepay.port}",
            ELEPAY_REQUESTS_PER_SECOND=40,
            ONBOARD_READ_TIMEOUT_SECONDS=8,
            ONBOARD_TOTAL_TIMEOUT_SECONDS=15,
            ONBOARD_SETTLE_SECONDS=0.5,
        )
        assert (made := command("status")).returncode == 0, made.stderr
        fleet = [*night.fleet(command), watch(night, command, "--no-workers")]
        night.until(lambda: "watching" in fleet[2].err.read_text() + fleet[2].out.read_text(), "a watcher at work")
        files = 0
        ends = time.monotonic() + SECONDS
        moods: dict[Proxy, float] = dict.fromkeys((ledger, redis, elepay), 0.0)
        while time.monotonic() < ends:
            for proxy, until in moods.items():
                if time.monotonic() > until:
                    proxy.mode = "pass" if proxy.mode != "pass" else dice.choice(get_args(Mode))
                    moods[proxy] = time.monotonic() + dice.uniform(0.5, LONGEST_SECONDS)
            if files < 3 + SECONDS / 10 and len(list(Path(drop.inbox).glob("*"))) < 3:
                files += 1
                write_csv(night.folder / f"{files}.csv", ROWS, prefix=f"cus_{files}_").rename(
                    drop.inbox / f"{files}.csv"
                )
            pause(0.5)
        for proxy in moods:
            proxy.mode = "pass"
        wait_until(lambda: len(drop.archived()) == files, 240, "the end of every file")
        for one in fleet:
            assert one.alive, one.said()
            one.signal(signal.SIGTERM)
        assert [one.wait(60) for one in fleet] == [0, 0, 0]
        assert [row.state for batch in range(1, files + 1) for row in rows_of(command, batch)] == [
            "created"
        ] * files * ROWS
        at_the_simulator(command, night.simulator, files * ROWS)
        night.note(rows=files * ROWS)

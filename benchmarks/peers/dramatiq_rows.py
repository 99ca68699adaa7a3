"""Dramatiq on Redis: a message a row, processes and threads as its command line has them.

python -m dramatiq benchmarks.peers.dramatiq_rows
python -m benchmarks.peers.dramatiq_rows FILE       tells on standard output when the first message is sent
"""

from __future__ import annotations

import os
import sys
import threading
import time

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.rows import HEADERS, TIMEOUT_SECONDS, address, body, read

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))  # type: ignore[no-untyped-call]
here = threading.local()


def session() -> requests.Session:
    """Return this thread's session."""
    if not hasattr(here, "session"):
        here.session = requests.Session()
        here.session.headers.update(HEADERS)
    found: requests.Session = here.session
    return found


@dramatiq.actor(max_retries=5)
def create_source(row: dict[str, str]) -> None:
    """Create one source."""
    response = session().post(address(row), json=body(row), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()


if __name__ == "__main__":
    rows = read(sys.argv[1])
    print(time.time(), flush=True)
    for each in rows:
        create_source.send(each)

"""Celery at its best with a message a row: threads instead of processes, no results, messages sent on one connection.

python -m celery -A benchmarks.peers.celery_threads worker --pool threads --concurrency 50
python -m benchmarks.peers.celery_threads FILE      tells on standard output when the first message is sent
"""

from __future__ import annotations

import os
import sys
import threading
import time

import requests
from celery import Celery
from celery.signals import worker_ready

from benchmarks.peers.rows import HEADERS, TIMEOUT_SECONDS, address, body, read

app = Celery("celery_threads", broker=os.environ["REDIS_URL"].replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=10, worker_send_task_events=False)
here = threading.local()


def session() -> requests.Session:
    """Return this thread's session."""
    if not hasattr(here, "session"):
        here.session = requests.Session()
        here.session.trust_env = False
        here.session.headers.update(HEADERS)
    found: requests.Session = here.session
    return found


@app.task(name="create_source", autoretry_for=(requests.RequestException,), retry_backoff=True, max_retries=5)
def create_source(row: dict[str, str]) -> None:
    """Create one source."""
    response = session().post(address(row), json=body(row), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()


@worker_ready.connect
def tell(**_: object) -> None:
    """Tell that the worker is up, which it does not at its default level of logging."""
    print("ready.", flush=True)


if __name__ == "__main__":
    rows = read(sys.argv[1])
    print(time.time(), flush=True)
    with app.producer_pool.acquire() as producer:
        for each in rows:
            create_source.apply_async((each,), producer=producer)

"""Celery as in its tutorial: a message a row, Redis as broker and for the results, `autoretry_for`.

python -m celery -A benchmarks.peers.celery_rows worker --concurrency 8
python -m benchmarks.peers.celery_rows FILE         tells on standard output when the first message is sent
"""

from __future__ import annotations

import os
import sys
import time

import requests
from celery import Celery

from benchmarks.peers.rows import HEADERS, TIMEOUT_SECONDS, address, body, read

REDIS = os.environ["REDIS_URL"].replace("unix://", "redis+socket://")

app = Celery("celery_rows", broker=REDIS, backend=REDIS)
session = requests.Session()  # one a process of the pool; connections come after the fork
session.headers.update(HEADERS)


@app.task(name="create_source", autoretry_for=(requests.RequestException,), retry_backoff=True, max_retries=5)
def create_source(row: dict[str, str]) -> str:
    """Create one source; return its id."""
    response = session.post(address(row), json=body(row), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    return str(response.json()["id"])


if __name__ == "__main__":
    rows = read(sys.argv[1])
    print(time.time(), flush=True)
    for each in rows:
        create_source.delay(each)

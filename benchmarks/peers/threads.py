"""pandas reads the file, 50 threads with a session each send it, tenacity tries again.

python -m benchmarks.peers.threads FILE
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks.peers.rows import HEADERS, TIMEOUT_SECONDS, address, body

THREADS = 50
here = threading.local()


def session() -> requests.Session:
    """Return this thread's session."""
    if not hasattr(here, "session"):
        here.session = requests.Session()
        here.session.headers.update(HEADERS)
    found: requests.Session = here.session
    return found


@retry(
    retry=retry_if_exception_type(requests.RequestException),
    wait=wait_random_exponential(max=10),
    stop=stop_after_attempt(5),
)
def create_source(row: dict[str, str]) -> str:
    """Create one source; return its id."""
    response = session().post(address(row), json=body(row), timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    return str(response.json()["id"])


def main() -> None:
    """Send every row, keep the ids in a list."""
    rows = pd.read_csv(sys.argv[1], dtype=str).to_dict("records")
    with ThreadPoolExecutor(THREADS) as pool:
        sources = list(pool.map(create_source, rows))
    print(f"{len(sources)} created")


if __name__ == "__main__":
    main()

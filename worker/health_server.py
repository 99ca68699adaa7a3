"""Serves `/metrics`, `/healthz` and `/readyz` of a long-lived process, at a port of its own.

Threads poll ledger and Redis about every POLL_SECONDS; a page shows the last answer. So a page is fast whatever hangs,
and frequent requests cost the ledger nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from tasks.ledger import Overview
from tasks.metrics_registry import counters
from tasks.operations.open_work import count_open_work
from tasks.send.rate_limit import CurrentRate
from tasks.services import Services
from worker.metrics import Observation, render

log = structlog.get_logger("onboard")

#: Seconds between two polls of ledger and Redis; after a slow poll the pause is PAUSE_SHARE times as long as it took.
POLL_SECONDS = 5.0
PAUSE_SHARE = 20
#: An answer that is older does not count.
STALE_SECONDS = 60.0
#: The same of what people have to do, which changes slowly: a hundred thousand rows take two tenths of a second.
OPEN_WORK_POLL_SECONDS, OPEN_WORK_STALE_SECONDS = 30.0, 600.0
#: A client that sends nothing for so long is disconnected.
CLIENT_SECONDS = 5.0

T = TypeVar("T")


class Pulse:
    """The heartbeat of a loop: it has stopped if it does not beat for longer than `limit_seconds`."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.at = time.time()
        self._beat = time.monotonic()

    def beat(self) -> None:
        """Record that the loop is alive."""
        self._beat, self.at = time.monotonic(), time.time()

    @property
    def stopped(self) -> bool:
        """Whether the last beat is too long ago."""
        return time.monotonic() - self._beat > self.limit_seconds


class _Poll(Generic[T]):
    """A question that a thread asks repeatedly; keeps the last answer, which counts for `stale_seconds`."""

    def __init__(
        self,
        name: str,
        ask: Callable[[], T],
        poll_seconds: float,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._ask, self._poll_seconds, self._stale_seconds = ask, poll_seconds, stale_seconds
        self._answer: T | None = None
        self._answered_at = 0.0
        self._succeeded = False
        threading.Thread(target=self._run, name=f"poll {name}", daemon=True).start()

    @property
    def answer(self) -> T | None:
        """The last answer, unless the last poll failed or it is too old."""
        return self._answer if self.is_well else None

    @property
    def is_well(self) -> bool:
        """Whether the last poll was answered, and recently."""
        return self._succeeded and time.monotonic() - self._answered_at < self._stale_seconds

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._answer = self._ask()
                self._answered_at, self._succeeded = time.monotonic(), True
            except Exception:  # noqa: BLE001 - the door of a thread: whatever it is, there is no answer
                self._succeeded = False
            took = time.monotonic() - started
            time.sleep(min(max(self._poll_seconds, PAUSE_SHARE * took), self._stale_seconds / 2))


class HealthServer:
    """The pages of one process.

    `trouble` returns why this process should be restarted, or ""; `pulses` are its loops by name.
    """

    def __init__(
        self, services: Services, *, trouble: Callable[[], str] = lambda: "", pulses: Mapping[str, Pulse] | None = None
    ) -> None:
        self._trouble = trouble
        self._pulses = dict(pulses or {})
        self._ledger = _Poll("ledger", partial(_ask_ledger, services), POLL_SECONDS)
        self._open_work = _Poll(
            "open work", partial(count_open_work, services), OPEN_WORK_POLL_SECONDS, OPEN_WORK_STALE_SECONDS
        )
        self._redis = _Poll("redis", partial(_ask_redis, services), POLL_SECONDS)

    def metrics(self) -> tuple[int, bytes]:
        """Return what Prometheus reads."""
        answer = self._ledger.answer
        return 200, render(
            Observation(
                counters.read(),
                answer.overview if answer else None,
                answer.unattended if answer else None,
                self._redis.answer,
                self._ready(),
                {name: pulse.at for name, pulse in self._pulses.items()},
                self._open_work.answer,
            )
        )

    def healthz(self) -> tuple[int, bytes]:
        """Return whether this process is alive; if not, why it should be restarted."""
        failures = [f"{name} stands still" for name, pulse in self._pulses.items() if pulse.stopped]
        if failure := self._trouble():
            failures.append(failure)
        return (503 if failures else 200), ("\n".join(failures or ["ok"]) + "\n").encode()

    def readyz(self) -> tuple[int, bytes]:
        """Return whether everything that this process needs answers."""
        ready = self._ready()
        lines = [f"{part} {'ok' if is_well else 'does not answer'}\n" for part, is_well in ready.items()]
        return (200 if all(ready.values()) else 503), "".join(lines).encode()

    def _ready(self) -> dict[str, bool]:
        """Return part -> whether it answers; elepay does not if it refused key or account last time."""
        return {"ledger": self._ledger.is_well, "redis": self._redis.is_well, "elepay": not counters.read().halted}


class _LedgerAnswer(NamedTuple):
    """What the ledger says."""

    overview: Overview
    unattended: int  #: batches that nobody works on


def _ask_ledger(services: Services) -> _LedgerAnswer:
    """Ask the ledger, which is reopened here if it was out of reach. Raises LedgerError if it cannot be written."""
    services.ledger.require_writable()
    return _LedgerAnswer(services.ledger.queries.overview(), len(services.ledger.batches.unattended()))


def _ask_redis(services: Services) -> CurrentRate:
    return services.rate_limit.current()


def serve(make_pages: Callable[[], HealthServer], host: str, port: int) -> ThreadingHTTPServer | None:
    """Serve the pages in threads until the process ends; None for port 0.

    A port that cannot be used is only logged: rows matter more than metrics.
    """
    if not port:
        return None
    try:
        server = ThreadingHTTPServer((host, port), _Pages)
    except OSError as error:
        log.error("metrics are not served, their port cannot be used", port=port, why=error.strerror)  # noqa: TRY400
        return None
    server.daemon_threads = True
    pages = make_pages()
    server.pages = {"/metrics": pages.metrics, "/healthz": pages.healthz, "/readyz": pages.readyz}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def is_served(host: str, port: int) -> bool:
    """Return whether a process of this program serves its pages there."""
    client = HTTPConnection(host, port, timeout=3)
    try:
        client.request("GET", "/healthz")
        return (client.getresponse().getheader("Server") or "").strip() == _Pages.server_version
    except (OSError, HTTPException):
        return False
    finally:
        client.close()


class _Pages(BaseHTTPRequestHandler):
    timeout = CLIENT_SECONDS
    server_version, sys_version = "onboard", ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])  # type: ignore[attr-defined]
        status, body = page() if page else (404, b"/metrics, /healthz, /readyz\n")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: a line for each request would fill the log."""

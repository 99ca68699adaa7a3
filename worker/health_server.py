"""Seeing inside of a long-lived process: `/metrics`, `/healthz` and `/readyz` at a port of its own.

Ledger and Redis are asked by threads of their own, every LOOK_SECONDS or so; a page shows the last answer. So a page
is quick whatever hangs, and asking more often costs the ledger nothing.
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
from tasks.send.rate_limit import CurrentRate
from tasks.services import Services
from worker.metrics import Observation, render

log = structlog.get_logger("onboard")

#: Seconds between two looks at ledger and Redis; a look that takes long makes the next wait LOOK_SHARE times as long.
LOOK_SECONDS = 5.0
LOOK_SHARE = 20
#: An answer older than this is none.
STALE_SECONDS = 60.0
#: A client that says nothing for so long is cut off.
CLIENT_SECONDS = 5.0

T = TypeVar("T")


class Pulse:
    """Somebody's sign of life: a loop that beats has not stood still for longer than `limit_seconds`."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.at = time.time()
        self._beat = time.monotonic()

    def beat(self) -> None:
        """Give a sign of life."""
        self._beat, self.at = time.monotonic(), time.time()

    @property
    def stopped(self) -> bool:
        """True if the last sign of life is too long ago."""
        return time.monotonic() - self._beat > self.limit_seconds


class _Look(Generic[T]):
    """Something that is asked again and again by a thread of its own; keeps the last answer."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answer: T | None = None
        self._answered = 0.0
        self._well = False
        threading.Thread(target=self._run, name=f"look at {name}", daemon=True).start()

    @property
    def answer(self) -> T | None:
        """The last answer, unless it failed or is too old."""
        return self._answer if self.well else None

    @property
    def well(self) -> bool:
        """True if the last question was answered, and lately."""
        return self._well and time.monotonic() - self._answered < STALE_SECONDS

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                self._answer = self._ask()
                self._answered, self._well = time.monotonic(), True
            except Exception:  # noqa: BLE001 - the door of a thread: whatever it is, there is no answer
                self._well = False
            took = time.monotonic() - started
            time.sleep(min(max(LOOK_SECONDS, LOOK_SHARE * took), STALE_SECONDS / 2))


class HealthServer:
    """The pages of one process.

    `trouble` says why this process should be started again, or nothing; `pulses` are its loops by name.
    """

    def __init__(
        self, services: Services, *, trouble: Callable[[], str] = lambda: "", pulses: Mapping[str, Pulse] | None = None
    ) -> None:
        self._trouble = trouble
        self._pulses = dict(pulses or {})
        self._ledger = _Look("ledger", partial(_look, services))
        self._redis = _Look("redis", partial(_rate, services))

    def metrics(self) -> tuple[int, bytes]:
        """Return what Prometheus reads."""
        seen = self._ledger.answer
        return 200, render(
            Observation(
                counters.read(),
                seen.overview if seen else None,
                seen.unattended if seen else None,
                self._redis.answer,
                self._ready(),
                {name: pulse.at for name, pulse in self._pulses.items()},
            )
        )

    def healthz(self) -> tuple[int, bytes]:
        """Tell whether this process is alive; if not, it should be started again."""
        troubles = [f"{name} stands still" for name, pulse in self._pulses.items() if pulse.stopped]
        if trouble := self._trouble():
            troubles.append(trouble)
        return (503 if troubles else 200), ("\n".join(troubles or ["ok"]) + "\n").encode()

    def readyz(self) -> tuple[int, bytes]:
        """Tell whether everything that this process needs answers."""
        ready = self._ready()
        lines = [f"{part} {'ok' if well else 'does not answer'}\n" for part, well in ready.items()]
        return (200 if all(ready.values()) else 503), "".join(lines).encode()

    def _ready(self) -> dict[str, bool]:
        """Return part -> whether it answers; elepay does not if its last word about key or account was no."""
        return {"ledger": self._ledger.well, "redis": self._redis.well, "elepay": not counters.read().halted}


class _Seen(NamedTuple):
    """What the ledger says."""

    overview: Overview
    unattended: int  #: batches for which nobody does anything


def _look(services: Services) -> _Seen:
    """Ask the ledger, which is opened (again) here if it was out of reach; one that cannot be written is no answer."""
    services.ledger.require_writable()
    return _Seen(services.ledger.queries.overview(), len(services.ledger.batches.unattended()))


def _rate(services: Services) -> CurrentRate:
    return services.rate_limit.current()


def serve(observing: Callable[[], HealthServer], host: str, port: int) -> ThreadingHTTPServer | None:
    """Serve the pages in threads of their own, until the process ends; None for port 0.

    A port that cannot be used is logged and nothing else: rows matter more than numbers about them.
    """
    if not port:
        return None
    try:
        server = ThreadingHTTPServer((host, port), _Pages)
    except OSError as error:
        log.error("metrics are not served, their port cannot be used", port=port, why=error.strerror)  # noqa: TRY400
        return None
    server.daemon_threads = True
    pages = observing()
    server.pages = {"/metrics": pages.metrics, "/healthz": pages.healthz, "/readyz": pages.readyz}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def is_served(host: str, port: int) -> bool:
    """Tell whether a process of ours serves its pages there."""
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
        """Say nothing: one line a look would fill the log."""

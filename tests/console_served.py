"""The review console as a browser meets it: the real application on a real port, with people whom a test names."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import requests
import uvicorn
from reported import HEADER, Reported, unclear
from starlette.requests import HTTPConnection

from tasks.models import Batch, LeasedRow, Outcome, RowState
from tasks.services import Services
from tests.factories import answer
from worker.console.app import build_app
from worker.console.people import Person, Role
from worker.console.safety.composition import middleware_of

APPROVER = Person("hanako@desk", Role.APPROVER)
OPERATOR = Person("taro@desk", Role.OPERATOR)
VIEWER = Person("jiro@desk", Role.VIEWER)


class Served:
    """A console that serves within the block, with all that keeps it safe but the sign-in: a person is given."""

    def __init__(self, services: Services, person: Person = APPROVER) -> None:
        async def this_person(_connection: HTTPConnection) -> Person:
            return person

        app = build_app(services, middleware_of(services, this_person))
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", proxy_headers=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def get(self, path: str, lang: str = "en", *, refreshed: bool = False, **more: Any) -> requests.Response:
        """Ask for a page, or as a page does that refreshes itself."""
        headers = {"Accept-Language": lang, **({"HX-Request": "true"} if refreshed else {})}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=60, **more)

    def post(self, path: str, lang: str = "en", **form: Any) -> requests.Response:
        """Send a form, and follow to the page after it."""
        return requests.post(f"{self.url}{path}", data=form, headers=self.headers(lang), timeout=60)

    def headers(self, lang: str = "en", **more: str) -> dict[str, str]:
        """What a browser says of a form on one of the console's pages."""
        return {"Accept-Language": lang, "Origin": self.url, "Sec-Fetch-Site": "same-origin", **more}


def night(row: LeasedRow) -> Outcome | None:
    """Created, refused for two reasons, unclear."""
    number = row.record % 10
    if number in (2, 3):
        return answer(row, RowState.REFUSED, code="U003005", request_id=f"req_{number:040d}", latency_ms=40)
    if number == 4:
        return answer(row, RowState.REFUSED, code="M002002", parameter="extra.x", latency_ms=400)
    return unclear(row) if number == 5 else answer(row, latency_ms=60 + number)


def file_of(rows: int, prefix: str = "cus") -> str:
    """A file with rows that can be sent, and every twentieth that cannot."""
    lines = [
        f"{prefix}_{n},{'creditcart' if n % 20 == 0 else 'creditcard'},ios,会員プラン {n}\n" for n in range(1, rows + 1)
    ]
    return HEADER + "".join(lines)


def a_night(reported: Reported, rows: int = 60) -> Batch:
    """A batch that ran, with something of everything."""
    return reported.settle(reported.accept(file_of(rows)), night)

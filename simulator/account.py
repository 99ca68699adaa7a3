"""What the operations share: the knobs, the sources, the counts, and the errors and pages that count themselves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import lru_cache
from http import HTTPStatus

from simulator import answers
from simulator.answers import Answer
from simulator.pages import page
from simulator.profile import Profile
from simulator.routing import Request
from simulator.state import Sources
from simulator.tally import Tally
from simulator.validation import MAX_ID_CHARS, Problem
from simulator.wrong_answers import Said

THROTTLED = Problem("M005000")
UNKNOWN_CUSTOMER = Problem("M002003", "customerId")

_language = lru_cache(100)(answers.language_of)


class Account:
    """One merchant's account at elepay. For one thread (an event loop)."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.sources = Sources()
        self.tally = Tally()
        self._requests = 0
        self._salt = secrets.randbits(32)  # so that a restarted simulator gives no request id a second time
        self.said = Said(self.sources)

    def positions_of(self, customer_id: str, payment_method: str, *, live_mode: bool) -> Iterator[int]:
        """Yield the positions of a customer's sources in one world, of one method or, if it is empty, of all."""
        for position in self.sources.of_customer(customer_id):
            record = self.sources.record(position)
            if record.live_mode == live_mode and payment_method in ("", record.payment_method):
                yield position

    def customer_problem(self, customer_id: str) -> Problem | None:
        """Return why there is no such customer, or None if there is."""
        if len(customer_id) > MAX_ID_CHARS:
            return Problem("M002002", "customerId")
        return UNKNOWN_CUSTOMER if customer_id.startswith(self.profile.missing_prefix) else None

    def page(self, status: int) -> Answer:
        """Return a page, counted if it says "too many requests"."""
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.tally.throttled += 1
        return page(status, self.profile)

    def error(self, request: Request, problem: Problem, http_status: int | None = None) -> Answer:
        """Return an error with a request id of its own."""
        self._requests += 1
        if problem is THROTTLED:
            self.tally.throttled += 1
        request_id = f"req_{self._salt:08x}{self._requests:016x}"
        return answers.error(problem, request_id, _language(request.language), self.profile, http_status)

    def error_of_another(self, request: Request, spare: float) -> Answer | None:
        """Return an error that another customer's createSource got, or None; `spare` says which."""
        answer = self.said.error_of_another(request.customer_id, spare)
        if answer is not None and answer.label == THROTTLED.code:
            self.tally.throttled += 1
        return answer

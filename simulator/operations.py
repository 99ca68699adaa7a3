"""elepay's operations: a request in, an outcome out; no network (docs/reference/elepay-api.md §2, §9)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from simulator import answers
from simulator.account import THROTTLED, Account
from simulator.answers import JSON_TYPE, Answer
from simulator.authority import NOT_ALLOWED, Doorkeeper, Permit
from simulator.catalogue import error_code_items
from simulator.ceiling import Ceiling
from simulator.faults import Faults, Strike
from simulator.look_ups import LookUps
from simulator.profile import Profile
from simulator.routing import UNKNOWN_PATH, WRONG_METHOD, Request
from simulator.state import SourceRecord
from simulator.validation import Problem, SourceFields, read_source
from simulator.wrong_answers import changed_answer, variant

MAINTENANCE = Problem("S002000")

_NO_STRIKE = Strike(None)
_ERRORS_BEFORE_COMMIT = {
    "S002000_window": MAINTENANCE,
    "S002001_window": Problem("S002001"),
    "throttled": THROTTLED,
    "list_500": Problem("S001000"),
}


class Outcome(NamedTuple):
    """What is to be answered, what happens on the way, and what is still to be done for a late commit."""

    answer: Answer
    strike: Strike = _NO_STRIKE
    late: Callable[[], Answer] | None = None
    position: int | None = None  #: of a source that was created and is answered as it should be


class Elepay:
    """One elepay: its sources, its knobs, its bad luck and its books. For one thread (an event loop)."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.seed = seed
        self._account = Account(profile)
        self.sources = self._account.sources
        self.tally = self._account.tally
        self.faults = Faults(profile, seed, time.monotonic)
        self._look_ups = LookUps(self._account)
        self._doorkeeper = Doorkeeper(profile)
        self._ceiling = Ceiling()

    def change(self, profile: Profile) -> None:
        """Use other knobs from now on; what exists stays."""
        self.profile = profile
        self._account.profile = profile
        self.faults.change(profile)
        self._doorkeeper.change(profile)

    def handle(self, request: Request) -> Outcome:
        """Execute a request, commit what is to be committed, and return what shall become of its answer.

        1. a page that comes from somewhere in between; 2. paths and methods that do not exist; 3. the key;
        4. the ceiling; 5. the operation itself.
        """
        operation = request.operation
        if self.faults.may_page:
            strike = self.faults.strike_page(operation, request.target, request.body)
            if strike is not None:
                return Outcome(self._account.page(variant(self.profile.page_statuses, strike.spare)), strike)
        if operation == "listErrorCodes":
            content = {"generatedAt": int(time.time() * 1000), "items": error_code_items()}
            return Outcome(answers.json_answer(200, content))
        if operation == UNKNOWN_PATH:
            return Outcome(self._not_found())
        if operation == WRONG_METHOD:
            return Outcome(self._account.error(request, Problem("M003000")))
        permit = self._doorkeeper.judge(request.authorization)
        if permit.problem is not None:
            return Outcome(self._turned_away(request, permit))
        if permit.publishable and operation != "retrieveSourceStatus":
            self.tally.wrong_auth += 1
            return Outcome(self._account.error(request, NOT_ALLOWED))
        if not self._ceiling.admits(
            time.monotonic(), self.profile.max_requests_per_second, hard=self.profile.hard_ceiling
        ):
            return Outcome(self._account.error(request, THROTTLED))
        if operation == "createSource":
            return self._create_source(request, permit)
        return self._look_up(request, permit)

    def answered(self, customer_id: str, outcome: Outcome) -> None:
        """Note an answer of createSource that was sent to the end: it may be sent again to somebody else."""
        answer = outcome.answer
        if outcome.position is not None:
            self._account.said.add_source(outcome.position)
        elif answer.status >= 400 and answer.content_type is JSON_TYPE and outcome.strike.fault != "repeated_error":
            self._account.said.add_error(customer_id, answer)

    def _look_up(self, request: Request, permit: Permit) -> Outcome:
        strike = self.faults.strike_look_up(request.operation, request.target)
        problem = _ERRORS_BEFORE_COMMIT.get(strike.fault or "")
        if problem is not None:
            return Outcome(self._account.error(request, problem), strike)
        return Outcome(self._look_ups.answer(request, permit, strike), strike)

    def _create_source(self, request: Request, permit: Permit) -> Outcome:
        """Create a source, unless something is against it (§9).

        1. the body and the ids; 2. the row's draw, its key being customer, method, resource and reference;
        3. faults before the commit; 4. what this customer and account may not; 5. refusals; 6. the commit.
        """
        profile = self.profile
        fields = read_source(request.body, request.content_type, profile.max_value_bytes)
        if not isinstance(fields, SourceFields):
            return Outcome(self._account.error(request, fields))
        reference = fields.metadata.get(profile.reference_key)
        key = f"{request.customer_id}\0{fields.payment_method}\0{fields.resource}\0{reference or ''}"
        strike = self.faults.strike_create(key, fields.payment_method)
        before = self._before_commit(request, strike)
        if before is not None:
            return Outcome(before, strike)
        problem = self._objection(request.customer_id, fields.payment_method, live_mode=permit.live_mode)
        if problem is None:
            code = self.faults.refusal(key)
            problem = Problem(code, "customerId" if code == "M002003" else None) if code else None
        if problem is not None:
            return Outcome(self._account.error(request, problem), Strike(None, strike.jitter))
        record = SourceRecord(
            request.customer_id, fields.payment_method, fields.resource, reference, live_mode=permit.live_mode
        )
        if strike.fault == "late_commit":
            return Outcome(
                answers.no_content(), strike, lambda: self._commit(record, fields, _NO_STRIKE, request).answer
            )
        return self._commit(record, fields, strike, request)

    def _before_commit(self, request: Request, strike: Strike) -> Answer | None:
        """Return the answer of a fault that strikes before anything is created, or None."""
        fault = strike.fault
        if fault is None:
            return None
        problem = _ERRORS_BEFORE_COMMIT.get(fault)
        if problem is not None:
            return self._account.error(request, problem)
        if fault == "error_500_before_commit":
            return self._account.error(request, Problem("S001000" if strike.spare < 0.5 else "S001001"))
        if fault == "html_502":
            return self._account.page(502)
        if fault == "http_429_with_retry_after":
            return self._account.page(429)
        if fault == "bare_status_before_commit":
            return self._account.page(variant(self.profile.bare_statuses, strike.spare))
        return answers.no_content() if fault in ("drop_before_commit", "hang_before_commit") else None

    def _objection(self, customer_id: str, payment_method: str, *, live_mode: bool) -> Problem | None:
        profile = self.profile
        problem = self._account.customer_problem(customer_id)
        if problem is None and payment_method in profile.disabled_methods:
            problem = Problem("M001001")
        if problem is None and payment_method not in profile.source_methods:
            problem = Problem("M002005")
        if problem is None and payment_method in profile.single_source_methods:
            existing = self._account.positions_of(customer_id, payment_method, live_mode=live_mode)
            has_one = any(self.sources.status(position) != "deleted" for position in existing)
            problem = Problem("M002010") if has_one else None
        return problem

    def _commit(self, record: SourceRecord, fields: SourceFields, strike: Strike, request: Request) -> Outcome:
        """Create the source and return its outcome; a fault that cannot be carried out does not strike."""
        profile, sources = self.profile, self.sources
        kept = fields if profile.remember_bodies else None
        position = sources.add(record, profile.status_on_create, time.monotonic(), kept)
        if strike.fault is None:
            return Outcome(self._created(position, fields), strike, position=position)
        answer = self._answer_of_fault(position, fields, strike, request)
        if answer is None:
            return Outcome(self._created(position, fields), Strike(None, strike.jitter), position=position)
        return Outcome(answer, strike)

    def _created(self, position: int, fields: SourceFields | None) -> Answer:
        return answers.json_answer(201, self._created_content(position, fields))

    def _created_content(self, position: int, fields: SourceFields | None) -> dict[str, Any]:
        content = answers.source_content(self.sources, position, fields, self.profile)
        if not self.profile.metadata_in_answers:
            del content["metadata"]
        return content

    def _answer_of_fault(self, position: int, fields: SourceFields, strike: Strike, request: Request) -> Answer | None:
        """Return the answer of a fault that strikes after the commit, or None if it needs what does not exist yet."""
        fault = strike.fault or ""
        match fault:
            case "commit_then_500_S001000":
                return self._account.error(request, Problem("S001000"))
            case "html_502_after_commit":
                return self._account.page(502)
            case "bare_status_after_commit":
                return self._account.page(variant(self.profile.bare_statuses, strike.spare))
            case "empty_201":
                return Answer(201, b"", "201")
            case "repeated_error":
                return self._account.error_of_another(request, strike.spare)
            case "earlier_source" | "earlier_id":
                earlier = self._account.said.source_of_another(position, strike.spare)
                if earlier is None:
                    return None
                if fault == "earlier_source":
                    return self._created(earlier, None)
                content = self._created_content(position, fields)
                return answers.json_answer(201, {**content, "id": self.sources.id_of(earlier)})
        return changed_answer(fault, self._created_content(position, fields), strike.spare)

    def _not_found(self) -> Answer:
        if self.profile.not_found_as_html:
            return self._account.page(404)
        return answers.json_answer(404, {"error": "Not Found"})

    def _turned_away(self, request: Request, permit: Permit) -> Answer:
        problem = permit.problem or NOT_ALLOWED
        if problem.code == "M004002":
            self.tally.missing_auth += 1
        else:
            self.tally.wrong_auth += 1
        return self._account.error(request, problem, permit.http_status)

"""elepay's operations: a request in, an outcome out; no network (docs/elepay-api.md §2, §9)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from simulator import answers
from simulator.answers import Answer
from simulator.authority import NOT_ALLOWED, Doorkeeper, Permit
from simulator.catalogue import error_code_items
from simulator.ceiling import Ceiling
from simulator.faults import Faults, Strike
from simulator.profile import Profile
from simulator.state import SourceRecord, Sources
from simulator.tally import Tally
from simulator.validation import MAX_ID_CHARS, Problem, SourceFields, is_payment_method, read_source

MAINTENANCE = Problem("S002000")
THROTTLED = Problem("M005000")
UNKNOWN_CUSTOMER = Problem("M002003", "customerId")
UNKNOWN_SOURCE = Problem("M002003", "sourceId")
WRONG_METHOD = "wrongMethod"
UNKNOWN_PATH = "unknownPath"

_language = lru_cache(100)(answers.language_of)
_NO_STRIKE = Strike(None)
_ERRORS_BEFORE_COMMIT = {
    "S002000_window": MAINTENANCE,
    "S002001_window": Problem("S002001"),
    "throttled": THROTTLED,
    "list_500": Problem("S001000"),
}


class Request(NamedTuple):
    """One API request; ids are decoded."""

    operation: str
    customer_id: str
    source_id: str
    query: bytes
    authorization: bytes
    content_type: bytes
    language: bytes
    body: bytes


class Outcome(NamedTuple):
    """What is to be answered, what happens on the way, and, for a late commit, what is still to be done."""

    answer: Answer
    strike: Strike = _NO_STRIKE
    late: Callable[[], Answer] | None = None


def operation_of(method: str, raw_path: bytes) -> tuple[str, str, str]:
    """Return the operation of a request and the customer id and source id in its path (§2.1)."""
    parts = raw_path.decode("latin-1").split("/")
    if b"%" in raw_path:
        parts = [unquote(part) for part in parts]
    match parts:
        case ["", "customers", customer_id, "sources"] if customer_id:
            names = {"POST": "createSource", "GET": "listSources"}
            return names.get(method, WRONG_METHOD), customer_id, ""
        case ["", "customers", customer_id, "sources", source_id] if customer_id and source_id:
            names = {"GET": "retrieveSource", "DELETE": "deleteSource"}
            return names.get(method, WRONG_METHOD), customer_id, source_id
        case ["", "sources", source_id, "status"] if source_id:
            return ("retrieveSourceStatus" if method == "GET" else WRONG_METHOD), "", source_id
        case ["", "customers", customer_id] if customer_id:
            return ("retrieveCustomer" if method == "GET" else WRONG_METHOD), customer_id, ""
        case ["", "payment-methods"]:
            return ("listPaymentMethods" if method == "GET" else WRONG_METHOD), "", ""
        case ["", "error-codes"]:
            return ("listErrorCodes" if method == "GET" else WRONG_METHOD), "", ""
    return UNKNOWN_PATH, "", ""


class Elepay:
    """One elepay: its sources, its knobs, its bad luck and its books. For one thread (an event loop)."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile = profile
        self.seed = seed
        self.sources = Sources()
        self.tally = Tally()
        self.faults = Faults(profile, seed, time.monotonic)
        self._doorkeeper = Doorkeeper(profile)
        self._ceiling = Ceiling()
        self._requests = 0
        self._actions: dict[str, Callable[[Request, Permit], Answer]] = {
            "listSources": self._list_sources,
            "retrieveSource": self._retrieve_source,
            "deleteSource": self._delete_source,
            "retrieveSourceStatus": self._retrieve_source_status,
            "retrieveCustomer": self._retrieve_customer,
            "listPaymentMethods": self._list_payment_methods,
        }

    def change(self, profile: Profile) -> None:
        """Use other knobs from now on; what exists stays."""
        self.profile = profile
        self.faults.change(profile)
        self._doorkeeper.change(profile)

    def handle(self, request: Request) -> Outcome:
        """Execute a request, commit what is to be committed, and return what shall become of its answer.

        1. paths and methods that do not exist; 2. the key; 3. the ceiling; 4. the operation itself.
        """
        operation = request.operation
        if operation == "listErrorCodes":
            content = {"generatedAt": int(time.time() * 1000), "items": error_code_items()}
            return Outcome(answers.json_answer(200, content))
        if operation == UNKNOWN_PATH:
            return Outcome(self._not_found())
        if operation == WRONG_METHOD:
            return Outcome(self._error(request, Problem("M003000")))
        permit = self._doorkeeper.judge(request.authorization)
        if permit.problem is not None:
            return Outcome(self._turned_away(request, permit))
        if permit.publishable and operation != "retrieveSourceStatus":
            self.tally.wrong_auth += 1
            return Outcome(self._error(request, NOT_ALLOWED))
        if not self._ceiling.admits(
            time.monotonic(), self.profile.max_requests_per_second, hard=self.profile.hard_ceiling
        ):
            return Outcome(self._error(request, THROTTLED))
        if operation == "createSource":
            return self._create_source(request, permit)
        return self._look_up(request, permit)

    def _look_up(self, request: Request, permit: Permit) -> Outcome:
        path = f"{request.customer_id}\0{request.source_id}\0{request.query.decode('latin-1')}"
        strike = self.faults.strike_look_up(request.operation, path)
        problem = _ERRORS_BEFORE_COMMIT.get(strike.fault or "")
        if problem is not None:
            return Outcome(self._error(request, problem), strike)
        return Outcome(self._actions[request.operation](request, permit), strike)

    def _create_source(self, request: Request, permit: Permit) -> Outcome:
        """Create a source, unless something is against it (§9).

        1. the body and the ids; 2. the row's draw, its key being customer, method, resource and reference;
        3. faults before the commit; 4. what this customer and account may not; 5. refusals; 6. the commit.
        """
        profile = self.profile
        fields = read_source(request.body, request.content_type, profile.max_value_bytes)
        if not isinstance(fields, SourceFields):
            return Outcome(self._error(request, fields))
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
            return Outcome(self._error(request, problem), Strike(None, strike.jitter))
        record = SourceRecord(
            request.customer_id, fields.payment_method, fields.resource, reference, live_mode=permit.live_mode
        )
        if strike.fault == "late_commit":
            return Outcome(answers.no_content(), strike, lambda: self._commit(record, fields, _NO_STRIKE, request))
        return Outcome(self._commit(record, fields, strike, request), strike)

    def _before_commit(self, request: Request, strike: Strike) -> Answer | None:
        """Return the answer of a fault that strikes before anything is created, or None."""
        fault = strike.fault
        if fault is None:
            return None
        problem = _ERRORS_BEFORE_COMMIT.get(fault)
        if problem is not None:
            return self._error(request, problem)
        if fault == "error_500_before_commit":
            return self._error(request, Problem("S001000" if strike.spare < 0.5 else "S001001"))
        if fault == "html_502":
            return answers.page(502)
        if fault == "http_429_with_retry_after":
            self.tally.throttled += 1
            return answers.page(429, ((b"retry-after", str(self.profile.retry_after_seconds).encode()),))
        return answers.no_content() if fault in ("drop_before_commit", "hang_before_commit") else None

    def _objection(self, customer_id: str, payment_method: str, *, live_mode: bool) -> Problem | None:
        profile = self.profile
        problem = self._customer_problem(customer_id)
        if problem is None and payment_method in profile.disabled_methods:
            problem = Problem("M001001")
        if problem is None and payment_method not in profile.source_methods:
            problem = Problem("M002005")
        if problem is None and payment_method in profile.single_source_methods:
            existing = self._positions_of(customer_id, payment_method, live_mode=live_mode)
            has_one = any(self.sources.status(position) != "deleted" for position in existing)
            problem = Problem("M002010") if has_one else None
        return problem

    def _positions_of(self, customer_id: str, payment_method: str, *, live_mode: bool) -> Iterator[int]:
        """Yield the positions of a customer's sources in one world, of one method or, if it is empty, of all."""
        for position in self.sources.of_customer(customer_id):
            record = self.sources.record(position)
            if record.live_mode == live_mode and payment_method in ("", record.payment_method):
                yield position

    def _customer_problem(self, customer_id: str) -> Problem | None:
        if len(customer_id) > MAX_ID_CHARS:
            return Problem("M002002", "customerId")
        return UNKNOWN_CUSTOMER if customer_id.startswith(self.profile.missing_prefix) else None

    def _commit(self, record: SourceRecord, fields: SourceFields, strike: Strike, request: Request) -> Answer:
        """Create the source and return its answer, changed by a fault that strikes after the commit."""
        profile, sources = self.profile, self.sources
        kept = fields if profile.remember_bodies else None
        position = sources.add(record, profile.status_on_create, time.monotonic(), kept)
        content = answers.source_content(sources, position, fields, profile)
        match strike.fault:
            case "commit_then_500_S001000":
                return self._error(request, Problem("S001000"))
            case "html_502_after_commit":
                return answers.page(502)
            case "empty_201":
                return Answer(201, b"", "201")
            case "wrong_live_mode":
                content["liveMode"] = not record.live_mode
        return answers.json_answer(201, content)

    def _list_sources(self, request: Request, permit: Permit) -> Answer:
        profile, sources = self.profile, self.sources
        wanted = parse_qs(request.query.decode("latin-1")).get("paymentMethod", [""])[-1]
        problem = self._customer_problem(request.customer_id)
        if problem is None and wanted and not is_payment_method(wanted):
            problem = Problem("M002002", "paymentMethod")
        if problem is not None:
            return self._error(request, problem)
        visible = [
            position
            for position in self._positions_of(request.customer_id, wanted, live_mode=permit.live_mode)
            if self._is_listed(position)
        ]
        listed = [
            answers.source_content(sources, position, None, profile, credential=profile.credential_in_lists)
            for position in visible[: profile.list_truncate_at]
        ]
        if not profile.list_metadata:
            for content in listed:
                del content["metadata"]
        return answers.json_answer(200, {"total": len(visible), "sources": listed})

    def _is_listed(self, position: int) -> bool:
        profile, sources = self.profile, self.sources
        status = sources.status(position)
        if status == "deleted" and not profile.list_includes_deleted:
            return False
        if status not in ("active", "deleted") and profile.list_only_active:
            return False
        return time.monotonic() - sources.created_at(position) >= profile.visibility_lag_ms / 1000

    def _position(self, request: Request, permit: Permit) -> int | None:
        """Return where the source of a request stands, or None if it is another customer's or another world's."""
        position = self.sources.position_of(request.source_id)
        if position is None:
            return None
        record = self.sources.record(position)
        ours = not request.customer_id or record.customer_id == request.customer_id
        return position if ours and record.live_mode == permit.live_mode else None

    def _retrieve_source(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None:
            return self._error(request, UNKNOWN_SOURCE)
        profile = self.profile
        content = answers.source_content(
            self.sources, position, None, profile, credential=profile.credential_on_retrieve
        )
        return answers.json_answer(200, content)

    def _delete_source(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None or self.sources.status(position) == "deleted":
            return self._error(request, UNKNOWN_SOURCE)
        self.sources.set_status(position, "deleted")
        return answers.no_content()

    def _retrieve_source_status(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None:
            return self._error(request, UNKNOWN_SOURCE)
        content = {
            "id": request.source_id,
            "appId": "app_simulated",
            "liveMode": permit.live_mode,
            "status": self.sources.status(position),
        }
        return answers.json_answer(200, content)

    def _retrieve_customer(self, request: Request, permit: Permit) -> Answer:
        problem = self._customer_problem(request.customer_id)
        if problem is not None:
            return self._error(request, problem)
        now_ms = int(time.time() * 1000)
        return answers.json_answer(
            200, answers.customer_content(request.customer_id, now_ms, live_mode=permit.live_mode)
        )

    def _list_payment_methods(self, _request: Request, _permit: Permit) -> Answer:
        return answers.json_answer(200, answers.payment_methods_content(self.profile))

    def _not_found(self) -> Answer:
        return answers.page(404) if self.profile.not_found_as_html else answers.json_answer(404, {"error": "Not Found"})

    def _turned_away(self, request: Request, permit: Permit) -> Answer:
        problem = permit.problem or NOT_ALLOWED
        if problem.code == "M004002":
            self.tally.missing_auth += 1
        else:
            self.tally.wrong_auth += 1
        return self._error(request, problem, permit.http_status)

    def _error(self, request: Request, problem: Problem, http_status: int | None = None) -> Answer:
        self._requests += 1
        if problem is THROTTLED:
            self.tally.throttled += 1
        request_id = f"req_{self._requests:024x}"
        return answers.error(problem, request_id, _language(request.language), self.profile, http_status)

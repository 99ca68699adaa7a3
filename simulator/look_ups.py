"""The operations that create nothing: lists, sources, their status, deletion, customers, payment methods."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qs

from simulator import answers
from simulator.account import Account
from simulator.answers import Answer
from simulator.authority import Permit
from simulator.faults import Strike
from simulator.routing import Request
from simulator.validation import Problem, is_payment_method
from simulator.wrong_answers import variant

UNKNOWN_SOURCE = Problem("M002003", "sourceId")


class LookUps:
    """What an account says about what exists."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._actions: dict[str, Callable[[Request, Permit], Answer]] = {
            "retrieveSource": self._retrieve_source,
            "deleteSource": self._delete_source,
            "retrieveSourceStatus": self._retrieve_source_status,
            "retrieveCustomer": self._retrieve_customer,
            "listPaymentMethods": self._list_payment_methods,
        }

    def answer(self, request: Request, permit: Permit, strike: Strike) -> Answer:
        """Return the answer of one of these operations."""
        if request.operation == "listSources":
            return self._list_sources(request, permit, self._lag_seconds(strike))
        return self._actions[request.operation](request, permit)

    def _lag_seconds(self, strike: Strike) -> float:
        """Return how far the list is behind that this request gets: the replica is drawn."""
        lags = self._account.profile.replica_lags_ms
        replica = variant(lags, strike.spare) if lags else 0.0
        return (self._account.profile.visibility_lag_ms + replica) / 1000

    def _list_sources(self, request: Request, permit: Permit, lag_seconds: float) -> Answer:
        profile, sources = self._account.profile, self._account.sources
        wanted = parse_qs(request.query.decode("latin-1")).get("paymentMethod", [""])[-1]
        problem = self._account.customer_problem(request.customer_id)
        if problem is None and wanted and not is_payment_method(wanted):
            problem = Problem("M002002", "paymentMethod")
        if problem is not None:
            return self._account.error(request, problem)
        visible = [
            position
            for position in self._account.positions_of(request.customer_id, wanted, live_mode=permit.live_mode)
            if self._is_listed(position, lag_seconds)
        ]
        listed = [
            answers.source_content(sources, position, None, profile, credential=profile.credential_in_lists)
            for position in visible[: profile.list_truncate_at]
        ]
        if not profile.list_metadata:
            for content in listed:
                del content["metadata"]
        return answers.json_answer(200, {"total": len(visible), "sources": listed})

    def _is_listed(self, position: int, lag_seconds: float) -> bool:
        profile, sources = self._account.profile, self._account.sources
        status = sources.status(position)
        if status == "deleted" and not profile.list_includes_deleted:
            return False
        if status not in ("active", "deleted") and profile.list_only_active:
            return False
        return time.monotonic() - sources.created_at(position) >= lag_seconds

    def _position(self, request: Request, permit: Permit) -> int | None:
        """Return where the source of a request stands, or None if it is another customer's or another world's."""
        position = self._account.sources.position_of(request.source_id)
        if position is None:
            return None
        record = self._account.sources.record(position)
        ours = not request.customer_id or record.customer_id == request.customer_id
        return position if ours and record.live_mode == permit.live_mode else None

    def _retrieve_source(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None:
            return self._account.error(request, UNKNOWN_SOURCE)
        profile = self._account.profile
        content = answers.source_content(
            self._account.sources, position, None, profile, credential=profile.credential_on_retrieve
        )
        return answers.json_answer(200, content)

    def _delete_source(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None or self._account.sources.status(position) == "deleted":
            return self._account.error(request, UNKNOWN_SOURCE)
        self._account.sources.set_status(position, "deleted")
        return answers.no_content()

    def _retrieve_source_status(self, request: Request, permit: Permit) -> Answer:
        position = self._position(request, permit)
        if position is None:
            return self._account.error(request, UNKNOWN_SOURCE)
        content = {
            "id": request.source_id,
            "appId": "app_simulated",
            "liveMode": permit.live_mode,
            "status": self._account.sources.status(position),
        }
        return answers.json_answer(200, content)

    def _retrieve_customer(self, request: Request, permit: Permit) -> Answer:
        problem = self._account.customer_problem(request.customer_id)
        if problem is not None:
            return self._account.error(request, problem)
        now_ms = int(time.time() * 1000)
        return answers.json_answer(
            200, answers.customer_content(request.customer_id, now_ms, live_mode=permit.live_mode)
        )

    def _list_payment_methods(self, _request: Request, _permit: Permit) -> Answer:
        return answers.json_answer(200, answers.payment_methods_content(self._account.profile))

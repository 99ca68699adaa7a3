"""What an answer of elepay says, and whether it is believed (docs/reference/elepay-api.md §2.3, §5).

An answer on a kept-alive connection may belong to an earlier request, and something between us and elepay may answer in
its place. So an answer counts only with evidence: a source by the reference and the customer that it names, an error by
elepay's own body with a `requestId` that was not received before. Nothing that is returned contains unchecked text.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard

import orjson
import structlog

from tasks.elepay.codes import LEGACY, action_for
from tasks.errors import Unclear
from tasks.identities import REFERENCE_KEY
from tasks.models import Source, SourceRequest

log = structlog.get_logger("onboard")

#: How many of the last source ids and request ids one client remembers.
SOURCE_IDS = 10_000
REQUEST_IDS = 30_000
#: The longest wait that a Retry-After can ask for.
MAX_RETRY_AFTER_SECONDS = 3600.0

_ERROR_CODE = re.compile(r"[MUS]\d{6}", re.ASCII)
_LEGACY_CODE = re.compile(r"9_\w+_\w+_\d{5}", re.ASCII)
_SECONDS = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


class Recent:
    """At least the last `size` keys, at most twice as many, each with the value that was noted first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def note(self, key: str, value: str = "") -> str | None:
        """Return what was noted for a key before; note `value` and return None if nothing was."""
        before = self._new.get(key)
        if before is None:
            before = self._old.get(key)
        if before is None:
            if len(self._new) >= self._size:
                self._old, self._new = self._new, {}
            self._new[key] = value
        return before


class Evidence:
    """What one client has received so far, to recognise an answer that is not its request's.

    Used by the thread that reads all answers. A process has one client; the ledger checks source ids completely.
    """

    def __init__(self) -> None:
        self._references = Recent(SOURCE_IDS)  # by source id
        self._request_ids = Recent(REQUEST_IDS)
        self._methods = Recent(1000)  # pairs of payment methods that were logged

    def decode(self, status: int, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
        """Return the JSON object of a 2xx answer; raise what is to be done otherwise (§5.1, §5.2)."""
        parsed = _parsed(content)
        fields: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
        request_id = short_text(fields["requestId"]) if "requestId" in fields else None
        repeated = request_id is not None and self._request_ids.note(request_id) is not None
        code, own = _error_code(fields)
        if 200 <= status < 300:
            if isinstance(parsed, dict) and not own:
                return parsed
            raise Unclear("unreadable_answer", http_status=status)
        if repeated:
            raise Unclear("answer_repeated", http_status=status)
        raise action_for(code, status)(
            code or f"http_{status}",
            parameter=short_text(fields.get("parameterName")),
            request_id=request_id,
            http_status=status,
            retry_after_seconds=retry_after_seconds(headers),
            bare=not own,
        )

    def created(self, fields: Mapping[str, Any], status: int, request: SourceRequest, reference: str) -> Source:
        """Return the source that a create's answer names; raises Unclear if it is another request's (§2.3).

        1. a reference or a customer that is not the request's belongs to another request
        2. without a reference, so does another payment method, resource or kind of object
        3. without a reference, what names neither payment method nor kind of object is no source, nor is the customer
        4. a source id that was received for another request belongs to that one
        5. with the right reference, another payment method is logged and the source counts
        """
        metadata, customer, method = fields.get("metadata"), fields.get("customerId"), fields.get("paymentMethod")
        answered = metadata.get(REFERENCE_KEY) if isinstance(metadata, dict) else None
        if differs(answered, reference) or differs(customer, request.customer_id):
            raise Unclear("answer_mismatch", http_status=status)
        if answered is None:
            _require_source(fields, status, request)
        source_id = short_text(fields.get("id"))
        if source_id is None:
            raise Unclear("unreadable_answer", http_status=status)
        if self._references.note(source_id, reference) not in (None, reference):
            raise Unclear("answer_mismatch", http_status=status)
        if differs(method, request.payment_method):
            method = short_text(method) or ""
            self._log_method(request.payment_method, method)
        return _source(fields, source_id, method or "", answered, "" if customer is None else customer)

    def _log_method(self, requested: str, answered: str) -> None:
        if self._methods.note(f"{requested} {answered}") is None:
            log.warning(
                "elepay answers with another payment method than was requested", requested=requested, answered=answered
            )


def _require_source(fields: Mapping[str, Any], status: int, request: SourceRequest) -> None:
    """Raise Unclear if an answer without a reference names another source than the request's, or none (§2.3)."""
    kind, method = fields.get("object"), fields.get("paymentMethod")
    if (
        differs(kind, "source")
        or differs(method, request.payment_method)
        or differs(fields.get("resource"), request.resource)
    ):
        raise Unclear("answer_mismatch", http_status=status)
    if (kind is None and method is None) or fields.get("id") == request.customer_id:
        raise Unclear("unreadable_answer", http_status=status)


def source_of(fields: Mapping[str, Any], customer_id: str) -> Source | None:
    """Return the source of a customer; None if its id is not valid. That it is this customer's was checked before."""
    source_id, metadata = short_text(fields.get("id")), fields.get("metadata")
    if source_id is None:
        return None
    reference = metadata.get(REFERENCE_KEY) if isinstance(metadata, dict) else None
    return _source(
        fields,
        source_id,
        short_text(fields.get("paymentMethod")) or "",
        reference if _printable(reference) else None,
        "" if fields.get("customerId") is None else customer_id,
    )


def _source(
    fields: Mapping[str, Any], source_id: str, payment_method: str, reference: str | None, customer_id: str
) -> Source:
    """Return a source of what was checked and of what needs no check."""
    live, metadata = fields.get("liveMode"), fields.get("metadata")
    return Source(
        source_id,
        short_text(fields.get("status")) or "",
        live if isinstance(live, bool) else None,
        payment_method,
        reference,
        isinstance(metadata, dict) and bool(metadata),
        customer_id,
    )


def differs(answered: object, expected: str) -> bool:
    """True if an answer says something else than expected; null and missing fields say nothing."""
    return answered is not None and answered != expected


def short_text(value: object) -> str | None:
    """Return an identifier or a word of the vendor's if it looks like one: never free text."""
    if isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable() and " " not in value:
        return value
    return None


def _printable(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable()


def _parsed(content: bytes) -> Any:
    """Return what JSON says; None if it cannot be read."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return _parsed_leniently(content)


def _parsed_leniently(content: bytes) -> Any:
    """Read what orjson rejects, for it may be in fields that are not read.

    A byte-order mark, NaN, lone surrogates, control characters, and bytes that are not UTF-8. What is deeply nested
    cannot be read.
    """
    try:
        return json.loads(content.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _error_code(fields: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Return `errorCode`, or what the deprecated `code` stands for, and whether the body is elepay's own (§5.1, §5.4).

    The body is elepay's own if one of the two has elepay's form; a `code` with an unknown number stands for nothing.
    """
    code, legacy = short_text(fields.get("errorCode")), short_text(fields.get("code"))
    if code and _ERROR_CODE.fullmatch(code):
        return code, True
    if legacy and _LEGACY_CODE.fullmatch(legacy):
        return LEGACY.get(legacy[-5:]), True
    return None, False


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long to wait by `Retry-After`, at most an hour; None if it is missing or nonsense.

    A date counts from the answer's own `Date`, or from our clock if there is none.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        until = _timestamp(text)
        if until is None:
            return None
        now = _timestamp(headers.get("date", ""))
        seconds = until - (time.time() if now is None else now)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _timestamp(text: str) -> float | None:
    """Return the time of an HTTP date, in seconds since the epoch; None if it is none."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

"""The bytes of an answer: sources, lists and errors (docs/reference/elepay-api.md §2.3, §5.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from simulator.catalogue import LANGUAGES, PAYMENT_METHODS, RESOURCES, error_code
from simulator.profile import Profile
from simulator.state import Sources
from simulator.validation import Problem, SourceFields

JSON_TYPE = b"application/json;charset=utf-8"

_BRANDS = ("visa", "mastercard", "jcb", "amex")


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    body: bytes
    label: str  #: how the statistics call it: the errorCode, else the HTTP status
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_answer(status: int, content: Any) -> Answer:
    """Return a JSON answer."""
    return Answer(status, orjson.dumps(content), str(status))


def no_content() -> Answer:
    """Return the answer of a deletion."""
    return Answer(204, b"", "204")


def error(problem: Problem, request_id: str, language: str, profile: Profile, http_status: int | None = None) -> Answer:
    """Return an error in elepay's form (§5.1)."""
    code = error_code(problem.code)
    content: dict[str, Any] = {"requestId": request_id} if profile.request_ids else {}
    content["message"] = code.message(language)
    if profile.error_fields != "legacy":
        content["errorCode"] = code.code
    if profile.error_fields != "errorCode":
        content["code"] = f"9_elepay_source_{code.legacy}" if code.legacy else None
    content["parameterName"] = problem.parameter
    content["providerError"] = _provider_error(code.code)
    if not profile.nulls_in_errors:
        content = {name: value for name, value in content.items() if value is not None}
    return Answer(http_status or code.http_status, orjson.dumps(content), code.code)


def language_of(header: bytes) -> str:
    """Return the language that an Accept-Language header asks for, Japanese if it asks for none of elepay's (§1)."""
    for choice in header.decode("latin-1").split(","):
        tag = choice.partition(";")[0].strip().lower()
        for language in LANGUAGES:
            if tag == language.lower() or tag.partition("-")[0] == language.lower():
                return language
    return LANGUAGES[0]


def source_content(
    sources: Sources, position: int, fields: SourceFields | None, profile: Profile, *, credential: bool = True
) -> dict[str, Any]:
    """Return a source as elepay shows it (§2.3); `fields` spares reading them from the store.

    A source whose body was not kept shows its reference as its only metadata.
    """
    record = sources.record(position)
    if fields is not None:
        description, extra, metadata = fields.description, fields.extra, fields.metadata
    else:
        reference = {} if record.reference is None else {profile.reference_key: record.reference}
        description, extra, metadata = sources.body(position) or (None, {}, reference)
    content: dict[str, Any] = {"id": sources.id_of(position), "object": "source"}
    if profile.customer_id_in_sources:
        content["customerId"] = record.customer_id
    content["liveMode"] = record.live_mode
    content["paymentMethod"] = profile.renamed_methods.get(record.payment_method, record.payment_method)
    content["resource"] = record.resource
    content["description"] = description
    content["extra"] = extra
    content["info"] = {}
    content["cardInfo"] = _card(position) if record.payment_method == "creditcard" else None
    content["metadata"] = metadata
    if credential:
        content["credential"] = sources.credential_of(position)
    content["status"] = sources.status(position)
    return content


def secrets_of(sources: Sources, position: int) -> dict[str, str | None]:
    """Return what an answer about a source says and nobody may keep: its credential and the name on its card."""
    card = _card(position) if sources.record(position).payment_method == "creditcard" else {}
    return {"credential": sources.credential_of(position), "cardholder": card.get("name")}


def customer_content(customer_id: str, now_ms: int, *, live_mode: bool) -> dict[str, Any]:
    """Return a customer (§2.3)."""
    return {
        "id": customer_id,
        "object": "customer",
        "liveMode": live_mode,
        "defaultSource": None,
        "name": f"TARO YAMADA-{customer_id}",
        "description": None,
        "email": f"taro.{customer_id}@example.com",
        "phone": "+81300000000",
        "remark": None,
        "operator": None,
        "status": "active",
        "metadata": {},
        "updateTime": now_ms,
    }


def payment_methods_content(profile: Profile) -> dict[str, Any]:
    """Return what this account may use (§2.3, §3.3); disabled methods are left out."""
    listed = [
        {
            "paymentMethod": method,
            "resources": list(RESOURCES),
            "brand": ["visa", "mastercard", "jcb", "amex"] if method == "creditcard" else [],
            "ua": None,
            "channelProperties": {
                "isSupportRefund": True,
                "isSupportPartialRefund": True,
                "isSupportMultipleRefund": True,
                "isSupportSource": method in profile.source_methods,
                "isSupportMultipleSource": method not in profile.single_source_methods,
            },
        }
        for method in PAYMENT_METHODS
        if method not in profile.disabled_methods
    ]
    return {"total": len(listed), "paymentMethods": listed}


def _card(position: int) -> dict[str, Any]:
    """Return card information with what looks like personal data (§8.6), different from source to source."""
    return {
        "brand": _BRANDS[position % len(_BRANDS)],
        "last4": f"{position % 10000:04d}",
        "expMonth": position % 12 + 1,
        "expYear": 2030 + position % 5,
        "name": f"TARO YAMADA-{position + 1}",
        "threeDSecure": False,
    }


def _provider_error(code: str) -> dict[str, str] | None:
    """Return a processor's raw error for codes that come from one; its text names a person on purpose."""
    if code[0] != "U" and code != "S001001":
        return None
    return {"providerKey": "simulated", "code": "do_not_honor", "message": "Declined for TARO YAMADA"}

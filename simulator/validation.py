"""What elepay demands of a createSource body (docs/reference/elepay-api.md §2.2, §4, §9); pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from simulator.catalogue import AUTO, PAYMENT_METHODS, RESOURCES

#: The limits of edition B (§2.2).
MAX_DESCRIPTION_CHARS = 255
MAX_ENTRIES = 20
MAX_KEY_CHARS = 20
#: Longest id in a path (§9).
MAX_ID_CHARS = 32
#: A body longer than this is nobody's source.
MAX_BODY_BYTES = 1024 * 1024

_METHODS = frozenset(PAYMENT_METHODS) - {AUTO}
_RESOURCES = frozenset(RESOURCES)


class Problem(NamedTuple):
    """Why a request is not accepted: an errorCode and, if one field is to blame, its name."""

    code: str
    parameter: str | None = None


class SourceFields(NamedTuple):
    """A createSource body that was accepted."""

    payment_method: str
    resource: str
    description: str | None
    extra: dict[str, str]
    metadata: dict[str, str]


def read_source(body: bytes, content_type: bytes, max_value_bytes: int = 255) -> SourceFields | Problem:
    """Return the fields of a createSource body, or the first thing that is wrong with it (§9)."""
    if not is_json(content_type) or len(body) > MAX_BODY_BYTES:
        return Problem("M002002")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Problem("M002002")
    if not isinstance(fields, dict):
        return Problem("M002002")
    return check_source(fields, max_value_bytes)


def check_source(fields: dict[str, Any], max_value_bytes: int = 255) -> SourceFields | Problem:
    """Return a decoded body's fields, or the first thing that is wrong with them. Unknown fields are ignored."""
    method, resource = fields.get("paymentMethod"), fields.get("resource")
    description, extra, metadata = fields.get("description"), fields.get("extra"), fields.get("metadata")
    problem = (
        _enum_problem("paymentMethod", method, _METHODS)
        or _enum_problem("resource", resource, _RESOURCES)
        or _description_problem(description)
        or _map_problem("extra", extra, max_value_bytes)
        or _map_problem("metadata", metadata, max_value_bytes)
    )
    if problem is not None:
        return problem
    if method == "wechatpay" and resource == "mini" and not (extra or {}).get("openid"):
        return Problem("M002001", "openid")
    return SourceFields(str(method), str(resource), description, extra or {}, metadata or {})


def is_json(content_type: bytes) -> bool:
    """True for `application/json`, alone or with the charset UTF-8 (§1)."""
    if content_type in (b"application/json", b"application/json;charset=utf-8"):
        return True
    kind, _, parameters = content_type.lower().partition(b";")
    charset = parameters.replace(b" ", b"").replace(b'"', b"")
    return kind.strip() == b"application/json" and charset in (b"", b"charset=utf-8")


def is_payment_method(value: str) -> bool:
    """True if sources of this method can be asked for."""
    return value in _METHODS


def _enum_problem(name: str, value: Any, allowed: frozenset[str]) -> Problem | None:
    if value is None or value == "":
        return Problem("M002001", name)
    if not isinstance(value, str) or value not in allowed:
        return Problem("M002002", name)
    return None


def _description_problem(value: Any) -> Problem | None:
    if value is None or (isinstance(value, str) and len(value) <= MAX_DESCRIPTION_CHARS):
        return None
    return Problem("M002002", "description")


def _map_problem(name: str, value: Any, max_value_bytes: int) -> Problem | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        return Problem("M002002", name)
    for key, each in value.items():
        if len(key) > MAX_KEY_CHARS or not isinstance(each, str):
            return Problem("M002002", name)
        if len(each) * 4 > max_value_bytes and len(each.encode()) > max_value_bytes:
            return Problem("M002002", name)
    return None

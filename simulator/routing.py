"""Which operation a request asks for (docs/reference/elepay-api.md §2.1)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

WRONG_METHOD = "wrongMethod"
UNKNOWN_PATH = "unknownPath"


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

    @property
    def target(self) -> str:
        """Return what the request is about, as text: the ids and the query."""
        return f"{self.customer_id}\0{self.source_id}\0{self.query.decode('latin-1')}"


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

"""The only file that speaks HTTP: elepay's customer sources (docs/elepay-api.md §2).

`requests` prepares the head once, reads proxies and certificates from where it always does, and makes the connections;
`flights` lets the requests fly on them. Nothing is retried here, no redirect is followed, and no body ever becomes part
of an error.
"""

from __future__ import annotations

import io
import queue
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import orjson
import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.util.proxy import connection_requires_http_tunnel

from tasks.elepay_codes import LEGACY, action_for
from tasks.errors import ElepayError, NotSent, Unclear
from tasks.flights import MAX_ANSWER_BYTES, Answer, Deadlines, Flight, Flights
from tasks.models import REFERENCE_KEY, Source, SourceRequest

USER_AGENT = "elepay-onboarding/0.1"


class SourceList(NamedTuple):
    """What listSources answered; `complete` if elepay itself says that this is all (§2.5)."""

    sources: list[Source]
    complete: bool


class PaymentMethod(NamedTuple):
    """A payment method of this key (§2.3, §3.3)."""

    name: str
    resources: tuple[str, ...]
    holds_sources: bool | None  #: None: elepay does not say
    holds_several: bool | None


class ElepayApi:
    """elepay, as far as this program needs it; safe to share between threads.

    Every method raises a subclass of ElepayError that says what to do.
    """

    def __init__(
        self,
        base_url: str,
        secret_key: SecretStr,
        deadlines: Deadlines,
        *,
        trust_env: bool = False,
    ) -> None:
        self._deadlines = deadlines
        session = requests.Session()
        session.trust_env = trust_env
        base = base_url.rstrip("/")
        settings = session.merge_environment_settings(base, {}, None, None, None)
        self._proxies = cast("Mapping[str, str]", settings["proxies"] or {})
        self._verify = cast("bool | str", settings["verify"])
        self._adapter = HTTPAdapter(max_retries=0)
        self._template = requests.Request("GET", f"{base}/", headers=_headers(secret_key)).prepare()
        self._path = self._adapter.request_url(self._template, self._proxies).rstrip("/")
        lines = [f"{name}: {value}" for name, value in self._template.headers.items()]
        if self._path.startswith("http"):  # a proxy reads the head
            proxy = requests.utils.select_proxy(base, dict(self._proxies)) or ""
            lines += [f"{name}: {value}" for name, value in self._adapter.proxy_headers(proxy).items()]
        host = urlsplit(base).netloc.rpartition("@")[2]
        self._head = "\r\n".join([" HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity", *lines, ""]).encode(
            "latin-1"
        )
        self._flights = Flights(self._connect, deadlines)

    @property
    def total_seconds(self) -> float:
        """The longest that any request can take."""
        return self._deadlines.total

    @property
    def failed(self) -> bool:
        """True if no request can leave any more, by a failure of this program."""
        return self._flights.failed

    def close(self) -> None:
        """Close every connection."""
        self._flights.close()
        self._adapter.close()

    def begin_create(
        self,
        request: SourceRequest,
        reference: str,
        then: Callable[[Source | ElepayError], None],
        *,
        wait_seconds: float = 0.0,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> None:
        """Create a source that carries our reference in its metadata (§2.2), in `wait_seconds`. Never repeated here.

        `may_leave` is asked just before bytes are written to the connection, when it has been made already; no means
        HeldBack. `then` is called once, by the thread that all requests share: it must not block.
        """
        body: dict[str, Any] = {"paymentMethod": request.payment_method, "resource": request.resource}
        if request.description is not None:
            body["description"] = request.description
        if request.extra:
            body["extra"] = request.extra
        body["metadata"] = {**request.metadata, REFERENCE_KEY: reference}

        def landed(result: Answer | ElepayError) -> None:
            made: Source | ElepayError
            try:
                made = result if isinstance(result, ElepayError) else _source(_decode(result))
            except ElepayError as error:
                made = error
            then(made)

        path = f"/customers/{_segment(request.customer_id)}/sources"
        sent = self._request("POST", path, orjson.dumps(body))
        self._flights.start(Flight(sent, landed, may_leave, time.monotonic() + wait_seconds))

    def create_source(
        self, request: SourceRequest, reference: str, *, may_leave: Callable[[], bool] = lambda: True
    ) -> Source:
        """Do what `begin_create` begins, and wait for its end."""
        landed: queue.SimpleQueue[Source | ElepayError] = queue.SimpleQueue()
        self.begin_create(request, reference, landed.put, may_leave=may_leave)
        made = landed.get()
        if isinstance(made, ElepayError):
            raise made
        return made

    def list_sources(self, customer_id: str, payment_method: str) -> SourceList:
        """Return a customer's sources of one payment method (§2.5)."""
        path = f"/customers/{_segment(customer_id)}/sources?paymentMethod={quote(payment_method, safe='')}"
        answer = self._call(path)
        listed = answer.get("sources")
        if not isinstance(listed, list):
            raise Unclear("unreadable_answer", http_status=200)
        sources = [_source(one) for one in listed if isinstance(one, dict)]
        return SourceList(sources, complete=answer.get("total") == len(listed) == len(sources))

    def retrieve_source_status(self, source_id: str) -> str:
        """Return elepay's own word for the state of a source, by the light call without personal data (§8.12)."""
        answer = self._call(f"/sources/{_segment(source_id)}/status")
        status = answer.get("status")
        if not isinstance(status, str):
            raise Unclear("unreadable_answer", http_status=200)
        return status

    def list_payment_methods(self) -> list[PaymentMethod]:
        """Return what this key may use, and which methods can hold a source (§3.3)."""
        answer = self._call("/payment-methods")
        listed = answer.get("paymentMethods")
        if not isinstance(listed, list):
            raise Unclear("unreadable_answer", http_status=200)
        return [_payment_method(one) for one in listed if isinstance(one, dict) and one.get("paymentMethod")]

    def _call(self, path: str) -> dict[str, Any]:
        """Ask for something and return the decoded JSON object of a 2xx answer."""
        landed: queue.SimpleQueue[Answer | ElepayError] = queue.SimpleQueue()
        self._flights.start(Flight(self._request("GET", path), landed.put))
        result = landed.get()
        if isinstance(result, ElepayError):
            raise result
        return _decode(result)

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{method} {self._path}{path}".encode() + self._head + f"{length}\r\n".encode() + body

    def _connect(self) -> HTTPConnection:
        """Return an open connection, made by the pool that `requests` would use; raises NotSent."""
        try:
            pool = cast(
                "HTTPConnectionPool",
                self._adapter.get_connection_with_tls_context(self._template, self._verify, proxies=self._proxies),
            )
            connection = cast("HTTPConnection", pool._new_conn())  # noqa: SLF001 - with the pool's certificates
            connection.timeout = self._deadlines.connect
            if connection_requires_http_tunnel(pool.proxy, pool.proxy_config, pool.scheme):
                pool._prepare_proxy(connection)  # noqa: SLF001 - so does `urlopen`
            else:
                connection.connect()
        except (requests.RequestException, Urllib3Error, OSError) as error:
            raise _why_not_connected(error) from None  # the cause quotes the address
        return connection


def _headers(secret_key: SecretStr) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {secret_key.get_secret_value()}",
        "Accept": "application/json",
        "Accept-Language": "en",
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json;charset=utf-8",
    }


def _segment(text: str) -> str:
    """Percent-encode an id as one segment of a path."""
    return quote(text, safe="")


def _decode(given: Answer) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer; raise what the answer tells us to do otherwise (§5.1, §5.2)."""
    status = given.status
    try:
        answer = orjson.loads(_unpacked(given))
    except orjson.JSONDecodeError:
        answer = None
    if 200 <= status < 300:
        if isinstance(answer, dict):
            return answer
        raise Unclear("unreadable_answer", http_status=status)
    fields = answer if isinstance(answer, dict) else {}
    code = _error_code(fields)
    raise action_for(code, status)(
        code or f"http_{status}",
        parameter=_short_text(fields.get("parameterName")),
        request_id=_short_text(fields.get("requestId")),
        http_status=status,
        retry_after_seconds=_retry_after(given.headers.get("retry-after")),
    )


def _unpacked(answer: Answer) -> bytes:
    """Return the content; what somebody on the way has packed although nobody asked for it, is unpacked."""
    encoding = answer.headers.get("content-encoding")
    if encoding is None:
        return answer.content
    packed = urllib3.HTTPResponse(
        io.BytesIO(answer.content), headers={"Content-Encoding": encoding}, preload_content=False
    )
    try:
        content = packed.read(MAX_ANSWER_BYTES, decode_content=True)
        whole = not packed.read(1, decode_content=True)
    except Urllib3Error:
        whole = False
    if not whole:
        raise Unclear("unreadable_answer", http_status=answer.status)
    return content


def _error_code(fields: Mapping[str, Any]) -> str | None:
    """Return `errorCode`, or what the deprecated `code` stands for (§5.1, §5.4)."""
    code = fields.get("errorCode")
    if isinstance(code, str) and len(code) == 7 and code[0] in "MUS" and code[1:].isascii() and code[1:].isdigit():
        return code
    legacy = fields.get("code")
    return LEGACY.get(legacy[-5:]) if isinstance(legacy, str) else None


def _short_text(value: object) -> str | None:
    """Return a vendor's identifier if it looks like one: never free text."""
    if isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable() and " " not in value:
        return value
    return None


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header; a date or nonsense counts as absent, an hour is the most."""
    return min(float(value), 3600.0) if value and value.isascii() and value.isdigit() else None


def _source(fields: Mapping[str, Any]) -> Source:
    source_id = fields.get("id")
    if not isinstance(source_id, str) or not source_id or len(source_id) > 64:
        raise Unclear("unreadable_answer", http_status=200)
    status, live = fields.get("status"), fields.get("liveMode")
    metadata = fields.get("metadata")
    reference = metadata.get(REFERENCE_KEY) if isinstance(metadata, dict) else None
    return Source(
        id=source_id,
        status=status if isinstance(status, str) else "",
        live_mode=live if isinstance(live, bool) else None,
        payment_method=str(fields.get("paymentMethod") or ""),
        reference=reference if isinstance(reference, str) else None,
        has_metadata=isinstance(metadata, dict) and bool(metadata),
    )


def _payment_method(fields: Mapping[str, Any]) -> PaymentMethod:
    properties = fields.get("channelProperties")
    properties = properties if isinstance(properties, dict) else {}
    resources = fields.get("resources")

    def told(name: str) -> bool | None:
        value = properties.get(name)
        return value if isinstance(value, bool) else None

    return PaymentMethod(
        name=str(fields["paymentMethod"]),
        resources=tuple(str(one) for one in resources) if isinstance(resources, list) else (),
        holds_sources=told("isSupportSource"),
        holds_several=told("isSupportMultipleSource"),
    )


def _why_not_connected(error: Exception) -> NotSent:
    """Name what kept a connection from being made, by urllib3's classes: nothing has left."""
    if isinstance(error, NameResolutionError):
        return NotSent("name_not_resolved")
    if isinstance(error, NewConnectionError):  # before its parent class ConnectTimeoutError
        return NotSent("connection_refused")
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotSent("certificate_not_trusted")
    if isinstance(error, ssl.SSLError):
        return NotSent("tls_failed")
    return NotSent("connect_timeout" if isinstance(error, ConnectTimeoutError | TimeoutError) else "connection_failed")

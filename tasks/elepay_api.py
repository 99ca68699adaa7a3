"""The only file that speaks HTTP: elepay's customer sources (docs/elepay-api.md §2).

Requests are prepared once and copied, and go through one `requests` adapter whose pool is as large as the number of
threads. Nothing is retried here, no redirect is followed, and no body ever becomes part of an error.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import orjson
import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import HTTPError as Urllib3Error

from tasks.elepay_codes import LEGACY, action_for
from tasks.errors import ElepayError, HeldBack, NotSent, Refused, Unclear
from tasks.models import REFERENCE_KEY, Source, SourceRequest

#: A source is a few hundred bytes and a list a few hundred sources; more than this is not elepay.
MAX_BODY_BYTES = 8 * 1024 * 1024
#: How often overdue requests are looked for.
CUT_EVERY_SECONDS = 0.25
#: How much of a body is read at once.
CHUNK_BYTES = 64 * 1024
USER_AGENT = "elepay-onboarding/0.1"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long one request may take, in seconds."""

    connect: float
    read: float  #: longest silence
    total: float  #: everything, to the last byte of the answer


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
        connections: int = 100,
        trust_env: bool = False,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._deadlines = deadlines
        self._cutter = _Cutter()
        self._adapter = _Adapter(self._cutter, connections)
        session = requests.Session()
        session.trust_env = trust_env
        settings = session.merge_environment_settings(self._base_url, {}, None, None, None)
        self._proxies = cast("Mapping[str, str]", settings["proxies"] or {})
        self._verify = cast("bool | str", settings["verify"])
        headers = {
            "Authorization": f"Bearer {secret_key.get_secret_value()}",
            "Accept": "application/json",
            "Accept-Language": "en",
            "User-Agent": USER_AGENT,
            "Content-Type": "application/json;charset=utf-8",
        }
        self._templates = {
            method: requests.Request(method, self._base_url + "/", headers=headers).prepare()
            for method in ("GET", "POST")
        }
        for template in self._templates.values():
            template.headers.pop("Content-Length", None)

    @property
    def total_seconds(self) -> float:
        """The longest that any request can take."""
        return self._deadlines.total

    def close(self) -> None:
        """Close every connection."""
        self._cutter.stop()
        self._adapter.close()

    def create_source(
        self, request: SourceRequest, reference: str, *, may_leave: Callable[[], bool] = lambda: True
    ) -> Source:
        """Create a source that carries our reference in its metadata (§2.2). Never repeated by this method.

        `may_leave` is asked just before bytes are written to the connection, when it has been made already; no raises
        HeldBack.
        """
        body: dict[str, Any] = {"paymentMethod": request.payment_method, "resource": request.resource}
        if request.description is not None:
            body["description"] = request.description
        if request.extra:
            body["extra"] = dict(request.extra)
        body["metadata"] = {**request.metadata, REFERENCE_KEY: reference}
        path = f"/customers/{_segment(request.customer_id)}/sources"
        answer = self._call("POST", path, body, may_leave=may_leave)
        return _source(answer)

    def list_sources(self, customer_id: str, payment_method: str) -> SourceList:
        """Return a customer's sources of one payment method (§2.5)."""
        path = f"/customers/{_segment(customer_id)}/sources?paymentMethod={quote(payment_method, safe='')}"
        answer = self._call("GET", path)
        listed = answer.get("sources")
        if not isinstance(listed, list):
            raise Unclear("unreadable_answer", http_status=200)
        sources = [_source(one) for one in listed if isinstance(one, dict)]
        return SourceList(sources, complete=answer.get("total") == len(listed) == len(sources))

    def retrieve_source_status(self, source_id: str) -> str:
        """Return elepay's own word for the state of a source, by the light call without personal data (§8.12)."""
        answer = self._call("GET", f"/sources/{_segment(source_id)}/status")
        status = answer.get("status")
        if not isinstance(status, str):
            raise Unclear("unreadable_answer", http_status=200)
        return status

    def list_payment_methods(self) -> list[PaymentMethod]:
        """Return what this key may use, and which methods can hold a source (§3.3)."""
        answer = self._call("GET", "/payment-methods")
        listed = answer.get("paymentMethods")
        if not isinstance(listed, list):
            raise Unclear("unreadable_answer", http_status=200)
        return [_payment_method(one) for one in listed if isinstance(one, dict) and one.get("paymentMethod")]

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        """Send one request and return the decoded JSON object of a 2xx answer."""
        prepared = self._templates[method].copy()
        prepared.url = self._base_url + path
        if body is not None:
            prepared.body = orjson.dumps(body)
            prepared.headers["Content-Length"] = str(len(prepared.body))
        with self._cutter.flight(time.monotonic() + self._deadlines.total, may_leave) as flight:
            try:
                response = self._adapter.send(
                    prepared,
                    stream=True,
                    timeout=(self._deadlines.connect, self._deadlines.read),
                    verify=self._verify,
                    proxies=self._proxies,
                )
            except requests.RequestException as error:
                raise _no_answer(error, flight) from None  # the cause quotes address and customer
            try:
                content = _read(response)
            except (requests.RequestException, Urllib3Error, OSError) as error:
                raise Unclear(_interruption(error, flight), http_status=response.status_code) from None
        return _decode(response, content)


def _segment(text: str) -> str:
    """Percent-encode an id as one segment of a path."""
    return quote(text, safe="")


@dataclass(eq=False, slots=True)
class _Flight:
    """One request under way."""

    ends: float  #: by the monotonic clock
    may_leave: Callable[[], bool]
    connection: HTTPConnection | None = None  #: set just before the first byte leaves: without it, nothing was sent
    cut: bool = False


class _Cutter:
    """Cuts connections whose request takes longer than its deadline, wherever it hangs.

    Timeouts of sockets start anew with every byte, so an answer that drips, or interim answers without end, would
    outlive them; the lease of a row relies on a request's end (docs/guarantees.md).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._flights: set[_Flight] = set()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    @contextlib.contextmanager
    def flight(self, ends: float, may_leave: Callable[[], bool]) -> Iterator[_Flight]:
        """Watch over the request that this thread makes inside the block."""
        flight = self._mine.flight = _Flight(ends, may_leave)
        with self._lock:
            self._flights.add(flight)
        try:
            yield flight
        finally:
            with self._lock:
                self._flights.discard(flight)

    def leaves(self, connection: HTTPConnection) -> None:
        """Note that (a further part of) this thread's request is about to leave on a connection, if it may."""
        flight = self._mine.flight
        if not flight.may_leave():
            raise HeldBack("held_back") if flight.connection is None else Unclear("connection_reset")
        flight.connection = connection

    def _watch(self) -> None:
        while not self._stopped.wait(CUT_EVERY_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [flight for flight in self._flights if flight.ends < now and not flight.cut]
                for flight in late:
                    sock = getattr(flight.connection, "sock", None)
                    if sock is not None:
                        flight.cut = True
                        with contextlib.suppress(OSError):
                            sock.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """An adapter whose connections say when a request leaves."""

    def __init__(self, cutter: _Cutter, connections: int) -> None:
        self._cutter = cutter
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools with connections of our kind."""
        super().init_poolmanager(*args, **kwargs)
        cutter = self._cutter

        class Plain(HTTPConnection):
            def send(self, data: Any) -> None:
                if self.sock is None:
                    self.connect()
                cutter.leaves(self)
                super().send(data)

        class Secure(HTTPSConnection):
            def send(self, data: Any) -> None:
                if self.sock is None:
                    self.connect()
                cutter.leaves(self)
                super().send(data)

        plain = type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": Plain})
        secure = type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": Secure})
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": secure}


def _read(response: requests.Response) -> bytes:
    """Return the body; raise when it is too long."""
    content = b""
    while True:
        part = response.raw.read1(CHUNK_BYTES, decode_content=True)
        if not part:
            response.raw.release_conn()
            return content
        content += part
        if len(content) > MAX_BODY_BYTES:
            response.raw.close()
            raise requests.ReadTimeout


def _decode(response: requests.Response, content: bytes) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer; raise what the answer tells us to do otherwise (§5.1, §5.2)."""
    status = response.status_code
    try:
        answer = orjson.loads(content)
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
        retry_after_seconds=_retry_after(response.headers.get("Retry-After")),
    )


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


def _no_answer(error: requests.RequestException, flight: _Flight) -> ElepayError:
    """Tell a request that never left from one that may have been executed.

    requests' ConnectionError mixes both; what decides is whether our connection was about to send (`_Flight`). The
    reason is unwrapped to urllib3's only to name it.
    """
    if flight.connection is not None:
        return Unclear(_interruption(error, flight))
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader):
        return Refused("not_sendable")
    reason: object = error.args[0] if error.args else error
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, ProxyError):
        reason = reason.original_error
    if isinstance(reason, NameResolutionError):
        return NotSent("name_not_resolved")
    if isinstance(reason, NewConnectionError):  # before its parent class ConnectTimeoutError
        return NotSent("connection_refused")
    if isinstance(reason, SSLError) and any(isinstance(arg, ssl.SSLCertVerificationError) for arg in reason.args):
        return NotSent("certificate_not_trusted")
    if isinstance(reason, SSLError):
        return NotSent("tls_failed")
    return NotSent("connect_timeout" if isinstance(reason, ConnectTimeoutError) else "connection_failed")


def _interruption(error: Exception, flight: _Flight) -> str:
    late = flight.cut or isinstance(error, requests.ReadTimeout | TimeoutError | ReadTimeoutError)
    return "read_timeout" if late else "connection_reset"

"""The only file that speaks HTTP: elepay's customer sources (docs/reference/elepay-api.md §2).

`requests` prepares the head once, reads proxies and certificates from where it always does, and makes the connections;
`http_transport` sends the requests on them, `answers` decides what an answer is worth. Nothing is retried here, no
redirect is followed, and no body ever becomes part of an error.
"""

from __future__ import annotations

import io
import queue
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlsplit

import orjson
import requests
import structlog
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.util.proxy import connection_requires_http_tunnel

from tasks.elepay.answers import Evidence, differs, short_text, source_of
from tasks.elepay.exchange import MAX_ANSWER_BYTES, MAX_LIST_BYTES, Answer, Connection, Deadlines, Exchange
from tasks.elepay.http_transport import HttpTransport, Transport
from tasks.errors import ElepayError, NotSent, Unclear
from tasks.identities import REFERENCE_KEY
from tasks.models import Source, SourceRequest

log = structlog.get_logger("onboard")

USER_AGENT = "elepay-onboarding/0.1"

#: What a pool of urllib3 hands on to its connections.
_TLS = (
    "cert_file",
    "key_file",
    "key_password",
    "cert_reqs",
    "ca_certs",
    "ca_cert_dir",
    "assert_hostname",
    "assert_fingerprint",
    "ssl_version",
    "ssl_minimum_version",
    "ssl_maximum_version",
)
#: An id of such characters only is its own segment of a path; `quote` takes longer to say so.
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+")

_Read = TypeVar("_Read")


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
        transport: Callable[[Callable[[], Connection], Deadlines], Transport] = HttpTransport,
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
        self._evidence = Evidence()
        self._transport = transport(self._connect, deadlines)

    @property
    def total_seconds(self) -> float:
        """The longest that any request can take."""
        return self._deadlines.total

    @property
    def failed(self) -> bool:
        """True if no request can leave any more, by a failure of this program."""
        return self._transport.failed

    def renew_connections(self) -> None:
        """Let no connection that is open now carry another request; may be called by any thread."""
        self._transport.renew()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()
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
        Fenced. `then` is called once, by the thread that all requests share: it must not block. An answer that
        belongs to another request, or may, is Unclear (`answer_mismatch`, `answer_repeated`).
        """
        body: dict[str, Any] = {"paymentMethod": request.payment_method, "resource": request.resource}
        if request.description is not None:
            body["description"] = request.description
        if request.extra:
            body["extra"] = request.extra
        body["metadata"] = {**request.metadata, REFERENCE_KEY: reference}

        def completed(result: Answer | ElepayError) -> bool:
            made, trusted = self._read(
                result, lambda fields, status: self._evidence.created(fields, status, request, reference)
            )
            then(made)
            return trusted

        path = f"/customers/{_segment(request.customer_id)}/sources"
        sent = self._request("POST", path, orjson.dumps(body))
        self._transport.start(Exchange(sent, completed, may_leave, time.monotonic() + wait_seconds))

    def create_source(
        self, request: SourceRequest, reference: str, *, may_leave: Callable[[], bool] = lambda: True
    ) -> Source:
        """Do what `begin_create` begins, and wait for its end."""
        completed: queue.SimpleQueue[Source | ElepayError] = queue.SimpleQueue()
        self.begin_create(request, reference, completed.put, may_leave=may_leave)
        made = completed.get()
        if isinstance(made, ElepayError):
            raise made
        return made

    def list_sources(self, customer_id: str, payment_method: str, *, fresh: bool = False) -> SourceList:
        """Return a customer's sources of one payment method (§2.5); a source without a valid id is left out.

        An empty list names no customer. So a list that is to prove absence must be `fresh`: it comes on a connection
        that has carried no other request.
        """
        path = f"/customers/{_segment(customer_id)}/sources?paymentMethod={quote(payment_method, safe='')}"
        return self._call(
            path, lambda fields, status: _sources(fields, status, customer_id), fresh=fresh, most_bytes=MAX_LIST_BYTES
        )

    def retrieve_source_status(self, source_id: str) -> str:
        """Return elepay's own word for the state of a source, by the light call without personal data (§8.12)."""
        path = f"/sources/{_segment(source_id)}/status"
        return self._call(path, lambda fields, status: _status(fields, status, source_id))

    def list_payment_methods(self) -> list[PaymentMethod]:
        """Return what this key may use, and which methods can hold a source (§3.3)."""
        return self._call("/payment-methods", _payment_methods)

    def _call(
        self,
        path: str,
        read: Callable[[dict[str, Any], int], _Read],
        *,
        fresh: bool = False,
        most_bytes: int = MAX_ANSWER_BYTES,
    ) -> _Read:
        """Ask for something and return what `read` makes of the fields and the HTTP status of a 2xx answer."""
        done: queue.SimpleQueue[_Read | ElepayError] = queue.SimpleQueue()

        def completed(result: Answer | ElepayError) -> bool:
            answer, trusted = self._read(result, read, most_bytes)
            done.put(answer)
            return trusted

        self._transport.start(Exchange(self._request("GET", path), completed, fresh=fresh, most_bytes=most_bytes))
        answer = done.get()
        if isinstance(answer, ElepayError):
            raise answer
        return answer

    def _read(
        self,
        result: Answer | ElepayError,
        read: Callable[[dict[str, Any], int], _Read],
        most_bytes: int = MAX_ANSWER_BYTES,
    ) -> tuple[_Read | ElepayError, bool]:
        """Return what an answer says, and whether its connection can be trusted with another request.

        It can after an answer that named its request, and after an error with a `requestId` that is new.
        """
        if isinstance(result, ElepayError):
            return result, True
        try:
            content = _unpacked(result, most_bytes) if "content-encoding" in result.headers else result.content
            return read(self._evidence.decode(result.status, result.headers, content), result.status), True
        except ElepayError as error:
            return error, error.request_id is not None
        except Exception as error:  # noqa: BLE001 - a bug must not leave a caller without an answer
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - its text may quote data
            return Unclear("internal_error", http_status=result.status), False

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{method} {self._path}{path}".encode() + self._head + f"{length}\r\n".encode() + body

    def _connect(self) -> HTTPConnection:
        """Return an open connection, made by the pool that `requests` would use; raises NotSent."""
        if isinstance(self._verify, str) and not Path(self._verify).exists():
            raise NotSent("ca_file_missing")
        try:
            pool = cast(
                "HTTPConnectionPool",
                self._adapter.get_connection_with_tls_context(self._template, self._verify, proxies=self._proxies),
            )
            connection = _new_connection(pool, self._deadlines.connect)
            if connection_requires_http_tunnel(pool.proxy, pool.proxy_config, pool.scheme):
                host = f"[{pool.host}]" if ":" in pool.host else pool.host
                scheme = "https" if pool.proxy and pool.proxy.scheme == "https" else "http"
                connection.set_tunnel(host, pool.port, pool.proxy_headers, scheme)
            connection.connect()
        except (requests.RequestException, Urllib3Error, OSError) as error:
            raise _why_not_connected(error) from None  # the cause quotes the address
        return connection


def _new_connection(pool: HTTPConnectionPool, connect_seconds: float) -> HTTPConnection:
    """Return a connection that is not open yet, with proxy and certificates as requests has chosen them."""
    tls: dict[str, Any] = {}
    if isinstance(pool, HTTPSConnectionPool):
        tls = {name: getattr(pool, name) for name in _TLS if getattr(pool, name) is not None}
    to = pool.proxy if pool.proxy is not None and pool.proxy.host is not None else pool
    made = pool.ConnectionCls(host=str(to.host), port=to.port, timeout=connect_seconds, **tls, **pool.conn_kw)
    return cast("HTTPConnection", made)


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
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


def _unpacked(answer: Answer, most_bytes: int) -> bytes:
    """Return the content that something in between has compressed although it was not asked to."""
    encoding = answer.headers["content-encoding"]
    packed = urllib3.HTTPResponse(
        io.BytesIO(answer.content), headers={"Content-Encoding": encoding}, preload_content=False
    )
    try:
        content = packed.read(most_bytes, decode_content=True)
        whole = not packed.read(1, decode_content=True)
    except Urllib3Error:
        whole = False
    if not whole:
        raise Unclear("unreadable_answer", http_status=answer.status)
    return content


def _sources(answer: Mapping[str, Any], status: int, customer_id: str) -> SourceList:
    listed = answer.get("sources")
    if not isinstance(listed, list):
        raise Unclear("unreadable_answer", http_status=status)
    objects = [fields for fields in listed if isinstance(fields, dict)]
    if any(differs(fields.get("customerId"), customer_id) for fields in objects):
        raise Unclear("answer_mismatch", http_status=status)
    sources = [source for fields in objects if (source := source_of(fields, customer_id)) is not None]
    total = answer.get("total")
    return SourceList(sources, complete=type(total) is int and total == len(listed) == len(sources))


def _status(answer: Mapping[str, Any], status: int, source_id: str) -> str:
    if differs(answer.get("id"), source_id):
        raise Unclear("answer_mismatch", http_status=status)
    word = short_text(answer.get("status"))
    if word is None:
        raise Unclear("unreadable_answer", http_status=status)
    return word


def _payment_methods(answer: Mapping[str, Any], status: int) -> list[PaymentMethod]:
    listed = answer.get("paymentMethods")
    if not isinstance(listed, list):
        raise Unclear("unreadable_answer", http_status=status)
    methods = [fields for fields in listed if isinstance(fields, dict) and short_text(fields.get("paymentMethod"))]
    return [_payment_method(fields) for fields in methods]


def _payment_method(fields: Mapping[str, Any]) -> PaymentMethod:
    properties = fields.get("channelProperties")
    properties = properties if isinstance(properties, dict) else {}
    resources = fields.get("resources")

    def flag(name: str) -> bool | None:
        value = properties.get(name)
        return value if isinstance(value, bool) else None

    return PaymentMethod(
        name=str(fields["paymentMethod"]),
        resources=tuple(filter(short_text, resources)) if isinstance(resources, list) else (),
        holds_sources=flag("isSupportSource"),
        holds_several=flag("isSupportMultipleSource"),
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
    if isinstance(error, InvalidSchema):  # the package that SOCKS needs is missing
        return NotSent("proxy_not_supported")
    if "407" in str(error.__cause__ or error).partition("Tunnel connection failed: ")[2][:4]:
        return NotSent("proxy_wants_password")
    return NotSent("connect_timeout" if isinstance(error, ConnectTimeoutError | TimeoutError) else "connection_failed")

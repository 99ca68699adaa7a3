"""Answers of elepay as nobody expects them: hypothesis draws them, and h11 says what was answered at all.

Names in braces stand for the ids of a request, so that an answer is drawn before its request is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import h11
from hypothesis import strategies as st

#: How often what stands before an ellipsis is repeated.
LONG = 70_000
REFERENCE_KEY = "onboarding_ref"
#: What the answer to a create, an error and a list look like (docs/reference/elepay-api.md §2.3, §5.1).
SOURCE: dict[str, Any] = {
    "id": "{src}",
    "object": "source",
    "customerId": "{cus}",
    "liveMode": False,
    "paymentMethod": "creditcard",
    "resource": "ios",
    "metadata": {REFERENCE_KEY: "{ref}", "plan": "gold"},
    "credential": "cred_0123456789",
    "status": "pending",
}
ERROR: dict[str, Any] = {
    "requestId": "{req}",
    "errorCode": "M002002",
    "code": "9_elepay_creditcard_10101",
    "message": "Declined for TARO YAMADA",
    "parameterName": "resource",
    "providerError": {"providerKey": "x", "code": "4242", "message": "TARO YAMADA"},
}
LIST: dict[str, Any] = {"total": 1, "sources": [SOURCE]}

STATUS_LINES = [
    *(f"HTTP/1.1 {status} Whatever" for status in (201, 201, 201, 200, 202, 204, 206, 226, 299)),
    *(f"HTTP/1.1 {status} Whatever" for status in (400, 400, 400, 401, 403, 404, 405, 408, 409, 413, 418, 429, 499)),
    *(f"HTTP/1.1 {status} Whatever" for status in (500, 500, 502, 503, 504, 599, 600, 999, 301, 303, 304, 307)),
    *(f"HTTP/1.1 {status} Whatever" for status in (100, 101, 102, 103, 199, "099", "000", "20", "2010", "-201", "2O1")),
    "HTTP/1.0 201 Created",
    "HTTP/0.9 201 Created",
    "HTTP/2 201",
    "HTTP/1.1 201",
    "HTTP/1.1 201 ",
    "HTTP/1.1  201 Created",
    "http/1.1 201 Created",
    "ICY 200 OK",
    "POST /x HTTP/1.1",
    "HTTP/1.1 201 x…",
    "HTTP/1.1 201 \udcff\udc80",
]
HEADERS = [
    "Content-Type: text/html",
    "Content-Type: application/json;charset=shift_jis",
    "Content-Type: application/json;charset=utf-16",
    "Content-Encoding: gzip",
    "Content-Encoding: br, gzip, zstd, deflate",
    "Content-Encoding: \udcff",
    "Content-Encoding: identity",
    "Content-Encoding:",
    "Connection: close",
    "Connection: keep-alive, close, upgrade",
    "Upgrade: websocket",
    "Retry-After: 5",
    "Retry-After: -5",
    "Retry-After: 9…",
    "Retry-After: Wed, (…1 Jan 2026",
    "Retry-After: Wed, 21 Oct 99999999999 07:28:00 GMT",
    "Retry-After: Wed, 21 Oct 2026 07:28:00 +99999999999999",
    "Retry-After: \udcff\udce9",
    "Date: Wed, 21 Oct 0001 07:28:00 -2359",
    "X-Long: x…",
    "X…: long",
    "no colon",
    ": no name",
    " folded: 1",
    "X-Nul: a\0b",
    "X-Cr: a\rb",
    "Content-Length: 7",
    "Content-Length: 7, 7",
    "Content-Length: +7",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Trailer: x",
]


def grown(text: str) -> str:
    """Return a text with each character that stands before an ellipsis so often that it is too long for anything."""
    return re.sub(r"(.)…", lambda found: found[1] * LONG, text)


ODD_TEXTS = [
    *("", " ", "\0", "null", "src_1", "a b", "会員", "x" * 64, "x" * 65, "x…", "\ud800", "\u202e", "../../etc"),
    *("{src}", "{cus}", "{ref}", "{req}", "source", "customer", "creditcard", "paypay"),
    *("M002003", "M00200\u0663", "m002003", "M0020033", "S002000", "9_elepay_creditcard_99999", "M005000", "M004001"),
]
ODD_NUMBERS: list[Any] = [None, True, False, 0, -1, 7, 1, 2, 1.0, 1.5, 10**30, -0.0, float("nan"), float("inf")]
simple = st.sampled_from(ODD_TEXTS) | st.sampled_from(ODD_NUMBERS) | st.text(max_size=12)


@st.composite
def odd_values(draw: st.DrawFn, depth: int = 0) -> Any:
    """Any JSON, mostly a word or a number."""
    match draw(st.integers(0, 9)) if depth < 2 else 9:
        case 0:
            return [draw(odd_values(depth + 1)) for _ in range(draw(st.integers(0, 3)))]
        case 1:
            names = draw(st.sets(st.sampled_from([*SOURCE, *ERROR]), max_size=3))
            return {name: draw(odd_values(depth + 1)) for name in sorted(names)}
    return draw(simple)


@st.composite
def changed(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """An object with some fields gone, some odd, and some of other objects."""
    gone = draw(st.sets(st.sampled_from(sorted(fields)), max_size=2))
    names = draw(st.sets(st.sampled_from([*fields, *fields, *SOURCE, *ERROR, *LIST]), max_size=2))
    kept = {name: value for name, value in fields.items() if name not in gone}
    return {**kept, **{name: draw(odd_values()) for name in sorted(names)}}


@st.composite
def sources(draw: st.DrawFn) -> Any:
    """A source, almost."""
    match draw(st.integers(0, 5)):
        case 0:
            return SOURCE
        case 1:
            return {**SOURCE, "metadata": draw(changed(SOURCE["metadata"]))}
        case 2:
            return draw(changed({**SOURCE, "metadata": {}}))
    return draw(changed(SOURCE))


@st.composite
def errors(draw: st.DrawFn) -> Any:
    """An error body, almost."""
    if draw(st.booleans()):
        return draw(changed(ERROR))
    code = draw(st.from_regex(r"[MSU]00[0-9]00[0-9]", fullmatch=True) | simple)
    return {**ERROR, "errorCode": code}


@st.composite
def lists(draw: st.DrawFn) -> Any:
    """A list of sources, almost."""
    listed = draw(st.lists(sources() | odd_values(), max_size=3))
    total = draw(st.sampled_from([len(listed), len(listed), bool(listed), float(len(listed)), str(len(listed))]))
    return draw(changed({"total": total, "sources": listed}))


@st.composite
def objects(draw: st.DrawFn) -> Any:
    """What an answer may hold."""
    match draw(st.integers(0, 9)):
        case 0:
            return draw(odd_values())
        case 1:
            return draw(st.sampled_from([[SOURCE], {"source": SOURCE}, {"data": SOURCE}, [[]], {"data": ERROR}]))
        case 2 | 3:
            return draw(errors())
        case 4 | 5:
            return draw(lists())
    return draw(sources())


def written(content: Any, how: str) -> str:
    """Return JSON in one of the ways in which it may be spoilt."""
    text = json.dumps(content, ensure_ascii=how == "plain").replace("\\u2026", "…")
    match how:
        case "nul":
            return text.replace(" ", "\0")
        case "control":
            return text.replace("gold", "go\nl\td\x01")
        case "twice":
            return text + text
        case "duplicate keys":
            return text.replace("{", '{"id": "src_other", "customerId": "cus_other", "errorCode": 1, ', 1)
        case "single quotes":
            return text.replace('"', "'")
        case "comment":
            return f"/* elepay */{text}"
        case "deep":
            return text.replace("null", "[…" + "]…")
        case "huge number":
            return text.replace("false", "9…")
        case "jsonp":
            return f"callback({text});"
        case "latin":
            return text.replace("gold", "g\udcf6ld")
    return text


def encoded(text: str, ids: Mapping[str, str], how: str = "utf-8") -> bytes:
    """Return the bytes of a text, with ids in it, and grown."""
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    text = grown(text)
    if how in ENCODINGS:
        return text.encode(how, "replace")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


ENCODINGS = ("utf-16", "utf-8-sig", "cp932", "utf-32")
HOW = ["utf-8", "plain", "plain", "plain", "plain", "utf-16", "utf-8-sig", "cp932", "utf-32", "nul", "control", "twice"]
HOW += ["duplicate keys", "single quotes", "comment", "deep", "huge number", "jsonp", "latin"]
TEXTS = [
    "",
    "\0\0\0",
    "<html>TARO YAMADA</html>",
    "\udcff\udcfe",
    "\x1f\udc8b\x08",
    "[…",
    '{"a":[…',
    '{"id": "src_1"',
    '"',
]
TEXTS += ["{}", "[]", "null", "0", "NaN", "1e999999", '{"\\ud800": 1}', "true", " …{}", "9…"]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, str]:
    """The text of a body, and how it is written."""
    if not draw(st.integers(0, 9)):
        return draw(st.sampled_from(TEXTS)), "utf-8"
    how = draw(st.sampled_from(HOW))
    return written(draw(objects()), how), how


def framed(body: bytes, how: str, number: int) -> tuple[list[str], bytes]:
    """Return the headers that say how long a body is, rightly or not, and the bytes that come."""
    at = number % (len(body) + 1)
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    chunked = ["Transfer-Encoding: chunked"]
    match how:
        case "length":
            return [f"Content-Length: {len(body)}"], body
        case "short":
            return [f"Content-Length: {at}"], body
        case "long":
            return [f"Content-Length: {len(body) + 1 + number}"], body
        case "odd":
            lengths = ("-1", "abc", "9" * 30, "0x10", "1 2", "", str(2**64 + len(body)), f"0{len(body)}")
            return [f"Content-Length: {lengths[number % len(lengths)]}"], body
        case "twice":
            return [f"Content-Length: {len(body)}", f"Content-Length: {at}"], body
        case "chunks":
            parts = [part for part in (body[:at], body[at:]) if part]
            return chunked, b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        case "chunks without end":
            return chunked, chunk
        case "broken chunks":
            sizes = (b"-1", b"zz", b"f" * 20, b"0x5", b"", b" 5", b"5 ", b"%x\n" % len(body))
            return chunked, sizes[number % len(sizes)] + b"\r\n" + body + b"\r\n0\r\n\r\n"
        case "both":
            return [*chunked, f"Content-Length: {at}"], chunk + b"0\r\n\r\n"
        case "trailer":
            return chunked, chunk + b"0\r\nRetry-After: 9\r\nContent-Encoding: gzip\r\n\r\n"
    return [], body


FRAMES = ["length", "chunks", "chunks", "to the end", "short", "long", "odd", "twice"]
FRAMES += ["chunks without end", "broken chunks", "both", "trailer"]


def spoilt(raw: bytes, how: str, at: float, what: bytes) -> bytes:
    """Return bytes with a fault that no structure has."""
    place = int(at * len(raw))
    match how:
        case "cut":
            return raw[:place]
        case "flipped":
            return raw[:place] + bytes([raw[place] ^ (what[0] | 1)]) + raw[place + 1 :] if place < len(raw) else raw
        case "inserted":
            return raw[:place] + what + raw[place:]
        case "removed":
            return raw[:place] + raw[place + len(what) :]
        case "again":
            return raw + raw
        case "interim":
            return b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n" + raw
        case "other first":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + raw
        case "newlines":
            return raw.replace(b"\r\n", b"\n")
    return raw


SPOILT = ["cut", "cut", "flipped", "inserted", "removed", "again", "interim", "other first", "newlines"]


@dataclass(frozen=True)
class Drawn:
    """An answer before its request is known."""

    line: str
    text: str
    how: str = "utf-8"
    headers: tuple[str, ...] = ()
    frame: str = "length"
    number: int = 0
    fault: str = "none"
    at: float = 0.0
    what: bytes = b"?"

    def answer(self, **ids: str) -> bytes:
        """Return its bytes, as the answer to the request with these ids: src, cus, ref, req."""
        framing, body = framed(encoded(self.text, ids, self.how), self.frame, self.number)
        head = encoded("\r\n".join([self.line, *framing, *self.headers, "", ""]), ids)
        return spoilt(head + body, self.fault, self.at, self.what)

    def to(self, number: int) -> bytes:
        """Return its bytes as the answer to a numbered request."""
        return self.answer(src=f"src_{number}", cus=f"cus_{number}", ref=f"ref_{number}", req=f"req_{number}")


@st.composite
def answers(draw: st.DrawFn, line: str = "HTTP/1.1 201 Created", content: Any = None) -> Drawn:
    """An answer with faults in its body, in its head, in the bytes, or everywhere; else as good as `content`."""
    where = draw(st.sampled_from(["body", "body", "body", "head", "framing", "bytes", "everywhere"]))
    drawn = Drawn(line, written(SOURCE if content is None else content, "utf-8"))
    if where in ("body", "everywhere"):
        text, how = draw(bodies())
        drawn = replace(drawn, line=draw(st.sampled_from([line, line, line, *STATUS_LINES])), text=text, how=how)
    if where in ("head", "everywhere"):
        headers = tuple(draw(st.lists(st.sampled_from(HEADERS), max_size=2)))
        drawn = replace(drawn, line=draw(st.sampled_from([line, *STATUS_LINES])), headers=headers)
    if where in ("framing", "everywhere"):
        drawn = replace(drawn, frame=draw(st.sampled_from(FRAMES)), number=draw(st.integers(0, 400)))
    if where in ("bytes", "everywhere"):
        what = draw(st.binary(min_size=1, max_size=3))
        drawn = replace(drawn, fault=draw(st.sampled_from(SPOILT)), at=draw(st.floats(0, 1)), what=what)
    return drawn


class Heard(NamedTuple):
    """What h11 makes of the bytes of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object in it, read as leniently as can be; empty if there is none."""
        try:
            found = json.loads(self.body.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def heard(raw: bytes, method: str) -> Heard | None:
    """Return the first whole answer in the bytes; None if there is none.

    Blank lines before a status line belong to no answer: llhttp, which the program reads by, passes over them, h11 does
    not.
    """
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 24)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    try:
        reader.receive_data(raw.lstrip(b"\r\n"))
        return _first_answer(reader)
    except h11.RemoteProtocolError:
        return None


def _first_answer(reader: h11.Connection) -> Heard | None:
    head: h11.Response | None = None
    parts: list[bytes] = []
    ended = False
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            return Heard(head.status_code, headers, b"".join(parts))
        elif event is h11.NEED_DATA and not ended:
            ended = True
            reader.receive_data(b"")
        elif not isinstance(event, h11.InformationalResponse):
            return None

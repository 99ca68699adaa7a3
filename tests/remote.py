"""A model of elepay in memory and the wire to it, under a clock that the test moves.

The wire is a transport in place of `tasks/elepay/http_transport.py`: our client's own code builds the request and reads
the answer. What is assumed of elepay, because nothing could be guaranteed without it
(docs/engineering/guarantees.md), stands in `MOST_LATE_SECONDS`.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from tasks.elepay import http_transport
from tasks.elepay.client import ElepayApi
from tasks.elepay.http_transport import Answer, Deadlines
from tasks.errors import ElepayError, Fenced, NotSent, Unclear
from tasks.identities import REFERENCE_KEY

LOOK_UP_DELAY_SECONDS = 2.0
TOTAL_SECONDS = 3.0
#: A source may come into being, or appear in lists, so long after its request left: less than the two look-ups of a row
#: are apart from it (one delay, then two more).
MOST_LATE_SECONDS = 2.5 * LOOK_UP_DELAY_SECONDS

#: Lists are behind by less than this, which is what the program is told (ONBOARD_LIST_LAG_SECONDS).
LIST_LAG_SECONDS = 24.0

#: Fate of a createSource request -> (seconds until its source exists, status of the source, answer).
EXECUTED: dict[str, tuple[float, str, str]] = {
    "created": (0.0, "pending", "201"),
    "created, signing failed": (0.0, "failed", "201"),
    "created, connection reset": (0.0, "pending", "reset"),
    "created, answered 500": (0.0, "pending", "S001000"),
    "created, a proxy's page": (0.0, "pending", "page"),
    "created, body cut off": (0.0, "pending", "cut"),
    "created, an earlier source's answer": (0.0, "pending", "earlier answer"),
    "created, an earlier source's id": (0.0, "pending", "earlier id"),
    "created, an earlier error": (0.0, "pending", "earlier error"),
    "created, a bare 303": (0.0, "pending", "303"),
    "created, a bare 404": (0.0, "pending", "404"),
    "created, a bare 413": (0.0, "pending", "413"),
    "created, a bare 429": (0.0, "pending", "429"),
    "created late, connection reset": (3.4, "pending", "reset"),
    "created late, answered 500": (3.4, "pending", "S001001"),
}
#: Fates of a request that is never executed, and whose answer does not tell.
LOST = {
    "lost, connection reset": "reset",
    "lost, answered 500": "S001000",
    "lost, a proxy's page": "page",
    "lost, a bare 413": "413",
    "lost, a bare 429": "429",
}
#: Fates of a request that is executed and answered as if it were another one.
WRONG = tuple(fate for fate in EXECUTED if "an earlier" in fate)
#: Fates of a request that is answered for good: certainly not executed.
DEFINITE = {
    "throttled": "M005000",
    "to be tried later": "U005000",
    "maintenance": "S002000",
    "maintenance of the provider": "S002001",
    "key revoked": "M004001",
    "refused": "U003005",
    "no such customer": "M002003",
    "method closed": "M001001",
    "there already": "M002010",
}
NO_CONNECTION = "no connection"
FATES = (*EXECUTED, *LOST, *DEFINITE, NO_CONNECTION)
#: Where an exchange waits until the test lets it go on: nowhere, just before it looks at its lease, on the wire (or
#: frozen between the look and the write), or for its answer.
AT_ONCE, BEFORE_IT_LEAVES, ON_THE_WIRE, FOR_ITS_ANSWER = "at once", "before it leaves", "on the wire", "for its answer"
#: A request reaches elepay so long after the look at the lease, or never: the lease outlives that look by a request's
#: longest time, the sweep waits as long again, and then come the two look-ups.
MOST_ON_THE_WIRE_SECONDS = 2 * TOTAL_SECONDS + MOST_LATE_SECONDS


#: Numbers of sources and answers: never the same twice, because the client remembers them from model to model.
_numbers = itertools.count()


class Killed(BaseException):
    """The process that was doing this exists no more."""


@dataclass
class Clock:
    """Time, for everybody."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


@dataclass
class There:
    """A source at elepay."""

    id: str
    customer: str
    method: str
    reference: str | None
    status: str
    exists_at: float

    def shown(self, *, metadata: bool, customer: bool = True) -> dict[str, Any]:
        name = {"other": "x"} if self.reference is None else {REFERENCE_KEY: self.reference}
        return {
            "id": self.id,
            "object": "source",
            **({"customerId": self.customer} if customer else {}),
            "liveMode": False,
            "paymentMethod": self.method,
            "status": self.status,
            **({"metadata": name} if metadata else {}),
        }


@dataclass
class Post:
    """A createSource request that has left."""

    key: tuple[int, int]  #: batch and record of the row that it was sent for
    customer: str
    method: str
    reference: str
    left_at: float
    definite: bool = False  #: it was answered, and surely not executed


@dataclass
class Remote:
    """What elepay has, and what it was asked."""

    clock: Clock
    hides: str = ""  #: "", "pending" (lists leave out what is pending) or "metadata"
    lag_seconds: float = 0.0  #: lists show a source so much later
    lists: str = "fine"  #: "fine", "truncated", "failing", "throttled" or "reset"
    sources: list[There] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    absent: dict[str, list[float]] = field(default_factory=dict)  #: when a list proved that a reference is not there
    word: dict[str, float] = field(default_factory=dict)  #: when a person last said so
    violations: list[str] = field(default_factory=list)
    errors: list[Answer] = field(default_factory=list)  #: error bodies that were sent

    def add_foreign(self, customer: str, method: str) -> None:
        """A source that somebody else made."""
        self.sources.append(There(f"src_foreign_{next(_numbers)}", customer, method, None, "active", self.clock.now))

    def of_reference(self, reference: str) -> list[There]:
        return [one for one in self.sources if one.reference == reference]

    def doubled(self) -> list[str]:
        count = Counter(one.reference for one in self.sources if one.reference)
        return [reference for reference, number in count.items() if number > 1]

    def create(self, exchange: Exchange, customer: str, body: dict[str, Any]) -> Answer | ElepayError:
        """One createSource request: it has left, is executed or not, and is answered (perhaps later)."""
        reference = body["metadata"][REFERENCE_KEY]
        self._judge(exchange, reference)
        method = body["paymentMethod"]
        post = Post(exchange.key, customer, method, reference, self.clock.now)
        self.posts.append(post)
        exchange.post = post
        exchange.stop_over(ON_THE_WIRE)
        if self.clock.now - post.left_at > MOST_ON_THE_WIRE_SECONDS:
            return _answer("reset")
        late, status, answer = EXECUTED.get(exchange.fate, (0.0, "", ""))
        if exchange.fate in EXECUTED:
            late = 0.0 if exchange.waits == ON_THE_WIRE else late
            self.sources.append(
                There(f"src_{next(_numbers)}", customer, method, reference, status, self.clock.now + late)
            )
            made = self.sources[-1]
        else:
            answer, made = (LOST | DEFINITE)[exchange.fate], None
        exchange.stop_over(FOR_ITS_ANSWER)
        post.definite = exchange.fate in DEFINITE
        return self._answer(answer, made)

    def _answer(self, kind: str, made: There | None) -> Answer | ElepayError:
        """The bytes of an answer; without an earlier one to repeat the connection breaks."""
        known = [one for one in self.sources[:-1] if one.reference and one.exists_at <= self.clock.now]
        earlier = [one for one in known if made and one.customer != made.customer]
        match kind:
            case "earlier answer" if earlier:
                return _created(earlier[-1].shown(metadata=True))
            case "earlier id" if earlier and made:
                return _created({**made.shown(metadata=True), "id": earlier[-1].id})
            case "earlier error" if self.errors:
                return self.errors[-1]
            case "201" | "cut" if made:
                answer = _created(made.shown(metadata=True))
                return answer if kind == "201" else answer._replace(content=answer.content[:20])
        return _answer(kind)

    def received(self, answer: Answer | ElepayError) -> None:
        """Note an error body that our client has read: it may be repeated."""
        if isinstance(answer, Answer) and answer.status >= 400 and answer.content.startswith(b"{"):
            self.errors.append(answer)

    def _judge(self, exchange: Exchange, reference: str) -> None:
        """Is this request allowed to leave, by all that elepay and people have said so far?"""
        self.violations += exchange.look()
        for post in self.posts:
            if post.reference != reference or post.definite or self.word.get(reference, 0.0) > post.left_at:
                continue
            proofs = [at for at in self.absent.get(reference, []) if at > post.left_at]
            if not proofs or proofs[-1] - post.left_at < MOST_LATE_SECONDS or len(proofs) < 2:
                self.violations.append(
                    f"{exchange.key} sent again, although nothing proves that it is absent: {proofs}"
                )

    def listed(self, customer: str, method: str) -> Answer | ElepayError:
        """One listSources request."""
        if self.lists in ("failing", "throttled", "reset"):
            return _answer({"failing": "S001000", "throttled": "M005000", "reset": "reset"}[self.lists])
        known = [one for one in self.sources if (one.customer, one.method) == (customer, method)]
        there = [one for one in known if one.exists_at + self.lag_seconds <= self.clock.now]
        shown = [one for one in there if not (self.hides == "pending" and one.status == "pending")]
        total = len(shown)
        if self.lists == "truncated":
            total, shown = total + 1, shown[:0]
        elif not self.hides:
            asked = {post.reference for post in self.posts if (post.customer, post.method) == (customer, method)}
            for reference in asked - {one.reference for one in there}:
                self.absent.setdefault(reference, []).append(self.clock.now)
        listed = [one.shown(metadata=self.hides != "metadata") for one in shown]
        return Answer(200, {}, json.dumps({"total": total, "sources": listed}).encode())


class Exchange(threading.Thread):
    """One request of a process, from the start of its thread to the decision; the test says when it goes on."""

    def __init__(self, key: tuple[int, int], look: Callable[[], list[str]], run: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.key, self.look, self._run_it = key, look, run
        self.fate = "created"
        self.waits = AT_ONCE
        self.post: Post | None = None
        self.completed = self._killed = False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)

    def begin(self, fate: str, waits: str) -> None:
        """Let it begin; it comes back when it is completed, or waits."""
        self.fate, self.waits = fate, waits
        self.start()
        self._theirs.acquire()

    def go_on(self, *, killed: bool = False) -> None:
        """Let it leave, or its answer come (or end it with its process)."""
        self._killed = killed
        self._mine.release()
        self._theirs.acquire()

    def stop_over(self, where: str) -> None:
        """Wait here, if this is where it waits."""
        if self.waits == where:
            self._theirs.release()
            self._mine.acquire()
        if self._killed:
            raise Killed

    def run(self) -> None:
        _here.exchange = self
        try:
            self._run_it()
        except Killed:
            pass
        finally:
            self.completed = True
            self._theirs.release()


_here = threading.local()


class Wire:
    """Carries our client's requests to the model, in the thread of the model's exchange."""

    failed = False
    _remote: Remote

    def connect(self, remote: Remote) -> None:
        """Carry everything to this model from now on."""
        self._remote = remote

    def start(self, *sent: http_transport.Exchange) -> None:
        for one in sent:
            self._start(one)

    def _start(self, sent: http_transport.Exchange) -> None:
        head, _, body = sent.request.partition(b"\r\n\r\n")
        method, target, _ = head.decode().split("\r\n")[0].split(" ")
        url = urlsplit(target)
        customer = unquote(url.path.split("/")[2])
        if method == "GET":
            self._complete(sent, self._remote.listed(customer, parse_qs(url.query)["paymentMethod"][0]))
            return
        exchange: Exchange = _here.exchange
        if exchange.fate == NO_CONNECTION:
            sent.completed(NotSent("connection_refused"))
            return
        exchange.stop_over(BEFORE_IT_LEAVES)
        self._complete(
            sent, self._remote.create(exchange, customer, json.loads(body)) if sent.may_leave() else Fenced("held_back")
        )

    def _complete(self, sent: http_transport.Exchange, answer: Answer | ElepayError) -> None:
        sent.completed(answer)
        self._remote.received(answer)

    def renew(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def client(wire: Wire) -> ElepayApi:
    """Our client; what it sends goes over the wire."""
    deadlines = Deadlines(connect=1.0, read=2.0, total=TOTAL_SECONDS)
    return ElepayApi("https://elepay.test", SecretStr("sk_test_0123456789"), deadlines, transport=lambda *_: wire)


def _created(source: dict[str, Any]) -> Answer:
    return Answer(201, {}, json.dumps(source).encode())


def _answer(kind: str) -> Answer | ElepayError:
    """An answer that brings no source."""
    match kind:
        case "page":
            return Answer(502, {}, b"<html>bad gateway</html>")
        case "303" | "404" | "413" | "429":
            return Answer(int(kind), {}, b"<html>something in between</html>")
        case "reset" | "earlier answer" | "earlier id" | "earlier error":
            return Unclear("connection_reset")
    body = json.dumps({"errorCode": kind, "requestId": f"req_{next(_numbers)}"}).encode()
    return Answer(500 if kind[0] == "S" else 400, {}, body)

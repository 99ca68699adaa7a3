"""Another elepay, written by hand from the API's description: it keeps the truth and answers wrongly on request.

It shares no code and no belief with the program or the simulator. It runs in the test's process, one thread a
connection, on a loopback port. Each fault strikes by dice that depend on the seed, the fault, the row's reference and
the number of the attempt, so a night strikes the same attempts whatever the timing.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from stranger_wire import (
    METHODS,
    Answer,
    Closed,
    Connection,
    Fault,
    Request,
    Source,
    operation_of,
    read_request,
)


class Stranger:
    """The server; `with Stranger() as stranger` starts and ends it."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        #: How long every answer takes.
        self.latency_seconds = 0.01
        #: Whether answers to creates show the row's metadata and customer; lists always show both.
        self.answers_show_metadata = True
        self.answers_show_customer = True
        #: Whether elepay's own errors carry a request id.
        self.errors_show_request_id = True
        #: How far lists are behind, one entry a replica.
        self.list_lags_seconds: tuple[float, ...] = (0.0,)
        #: Which replica answers for a customer; None: each list comes from a replica by dice.
        self.replica_of: Callable[[str], int] | None = None
        #: Lists show nothing that was made after this time (`time.monotonic`).
        self.lists_end_at: float | None = None
        #: Customers that elepay does not have.
        self.unknown_customers: set[str] = set()
        #: The references that each kind of fault struck.
        self.struck: dict[str, set[str]] = defaultdict(set)
        #: Requests by operation, and each create that arrived with its time.
        self.requests: Counter[str] = Counter()
        self.creates: list[tuple[float, str]] = []

        self._faults: list[tuple[Fault, float | None]] = []
        self._sources: dict[str, Source] = {}
        self._by_reference: dict[str, list[Source]] = defaultdict(list)
        self._by_customer: dict[str, list[Source]] = defaultdict(list)
        self._delivered: list[Source] = []
        self._made: list[Source] = []
        self._errors: list[str] = []
        self._attempts: Counter[str] = Counter()
        self._strikes: Counter[tuple[str, str]] = Counter()
        self._numbers = 0
        self._lock = threading.Lock()
        self._dice = random.Random(seed)
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._timers: list[threading.Timer] = []
        self._ending = False

    # its life

    def __enter__(self) -> Stranger:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ending = True
            connections, timers = list(self._connections), list(self._timers)
        for timer in timers:
            timer.cancel()
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, function: Any, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._ending:
                    accepted.close()
                    return
                self._connections.add(accepted)
            self._start(self._serve, accepted)

    def _serve(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(accepted)
        try:
            with accepted.makefile("rb") as stream:
                while (request := read_request(stream)) is not None:
                    self._respond(connection, request)
        except (OSError, ValueError, Closed):
            pass
        finally:
            with self._lock:
                self._connections.discard(accepted)
            accepted.close()

    # what it is told to do

    def misbehave(self, *faults: Fault, seconds: float | None = None) -> None:
        """Misbehave in these ways from now on, or for so many seconds; the first fault that strikes counts."""
        ends_at = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            self._faults = [(fault, ends_at) for fault in faults]

    def behave(self) -> None:
        """Answer honestly from now on."""
        self.misbehave()

    # the truth

    def doubled(self) -> dict[str, list[str]]:
        """Return the references with more than one source, with their ids."""
        with self._lock:
            return {
                reference: [one.source_id for one in made]
                for reference, made in self._by_reference.items()
                if len(made) > 1
            }

    def sources_of(self, reference: str) -> list[str]:
        """Return the ids of the sources that were made for a reference."""
        with self._lock:
            return [one.source_id for one in self._by_reference.get(reference, [])]

    def source(self, source_id: str | None) -> Source | None:
        """Return a source that was really made, or None."""
        with self._lock:
            return self._sources.get(source_id or "")

    @property
    def total(self) -> int:
        """How many sources there are."""
        with self._lock:
            return len(self._sources)

    def creates_between(self, start: float, end: float) -> int:
        """Return how many creates arrived between two times of `time.monotonic`."""
        with self._lock:
            return sum(start <= at < end for at, _ in self.creates)

    def doubtful(self) -> set[str]:
        """Return the references that any fault struck."""
        with self._lock:
            return set().union(*self.struck.values())

    # one request

    def _respond(self, connection: Connection, request: Request) -> None:
        fault = self._fault_for(request)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        if request.is_create:
            self._answer_create(connection, request, fault)
        elif fault is None:
            self._send(connection, self._read(request))
        else:
            self._carry_out(connection, fault, self._read(request), None)

    def _fault_for(self, request: Request) -> Fault | None:
        """Count the request, throw the dice, and return the fault that strikes it."""
        now = time.monotonic()
        key = request.reference if request.is_create else f"{request.method} {request.path}"
        with self._lock:
            self.requests[operation_of(request)] += 1
            if request.is_create:
                self.creates.append((now, key))
            self._attempts[key] += 1
            for number, (fault, ends_at) in enumerate(self._faults):
                if (ends_at is not None and now >= ends_at) or not fault.strikes(request):
                    continue
                if self._strikes[fault.kind, key] >= fault.times:
                    continue
                text = f"{self.seed} {number} {fault.kind} {key} {self._attempts[key]}"
                throw = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
                if throw < fault.share:
                    self._strikes[fault.kind, key] += 1
                    if request.is_create:
                        self.struck[fault.kind].add(key)
                    return fault
        return None

    def _answer_create(self, connection: Connection, request: Request, fault: Fault | None) -> None:
        refusal = self._refusal(request)
        if refusal is not None:
            self._note_error(connection, refusal)
            self._send(connection, refusal)
            return
        if fault is None:
            source = self._execute(request)
            self._send(connection, self._created(source))
            self._note_delivered(source)
            return
        if fault.kind == "error":
            error = self._error(fault.code)
            self._note_error(connection, error)
            self._send(connection, error)
            if fault.delay_seconds:
                self._repeat(connection, error, fault.delay_seconds)
            return
        if fault.late_seconds:
            self._execute_later(request, fault.late_seconds)
            self._carry_out(connection, fault, None, None)
            return
        made = self._execute(request) if fault.executed else None
        self._carry_out(connection, fault, self._created(made) if made else None, made)

    def _carry_out(self, connection: Connection, fault: Fault, honest: Answer | None, made: Source | None) -> None:
        """Answer a request as the fault wants it; `honest` is the right answer, if there is one."""
        if fault.kind == "close":
            if fault.reset:
                linger = struct.pack("ii", 1, 0)
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            raise Closed
        if fault.kind == "status" or honest is None:
            answer = Answer(fault.status, fault.body, fault.content_type, fault.headers)
            self._send(connection, answer)
            return
        if fault.kind == "earlier" and made is not None:
            honest = self._earlier(fault, made) or honest
        elif fault.kind == "earlier error":
            honest = self._earlier_error(fault, connection) or honest
        elif fault.kind == "http/1.0":
            honest.version = "1.0"
        elif fault.kind == "surplus":
            self._send(connection, honest, fault.body.encode())
            self._note_delivered(made)
            return
        self._send(connection, honest)
        if fault.kind in ("repeat", "http/1.0"):
            self._note_delivered(made)
        if fault.kind == "repeat" or fault.delay_seconds:
            self._repeat(connection, honest, fault.delay_seconds)

    def _repeat(self, connection: Connection, answer: Answer, delay_seconds: float) -> None:
        if delay_seconds:
            time.sleep(delay_seconds)
        self._send(connection, answer)

    def _send(self, connection: Connection, answer: Answer, more: bytes = b"") -> None:
        connection.socket.sendall(answer.to_bytes() + more)

    # what elepay does

    def _refusal(self, request: Request) -> Answer | None:
        """Return elepay's own answer to a create that cannot be executed."""
        if not request.headers.get("authorization", "").startswith("Bearer sk_"):
            return self._error("M004001")
        if request.parts[1] in self.unknown_customers:
            return self._error("M002003", "customerId")
        for name in ("paymentMethod", "resource"):
            if not request.body.get(name):
                return self._error("M002001", name)
        return None

    def _execute(self, request: Request) -> Source:
        with self._lock:
            self._numbers += 1
            digest = hashlib.blake2b(f"{self.seed} {self._numbers}".encode(), digest_size=12).hexdigest()
            made = Source(
                self._numbers,
                f"src_{digest}",
                request.parts[1],
                str(request.body["paymentMethod"]),
                str(request.body["resource"]),
                request.reference,
                dict(request.body.get("metadata") or {}),
                request.body.get("description"),
                time.monotonic(),
            )
            self._sources[made.source_id] = made
            self._by_reference[made.reference].append(made)
            self._by_customer[made.customer].append(made)
            self._made.append(made)
            return made

    def _execute_later(self, request: Request, seconds: float) -> None:
        timer = threading.Timer(seconds, self._execute, [request])
        timer.daemon = True
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def _created(self, source: Source) -> Answer:
        shown = source.body(metadata=self.answers_show_metadata, customer=self.answers_show_customer)
        return Answer.of(201, shown)

    def _earlier(self, fault: Fault, made: Source) -> Answer | None:
        """Return the answer with an earlier source's id, or None as long as there is none.

        Only sources that were made before: two answers that name each other's source could never be told apart.
        """
        with self._lock:
            sources = self._made if fault.undelivered else self._delivered
            earlier = [one for one in sources if one.number < made.number]
            if not earlier:
                return None
            other = self._dice.choice(earlier)
        if not fault.only_id:
            return self._created(other)
        shown = made.body(metadata=self.answers_show_metadata, customer=self.answers_show_customer)
        return Answer.of(201, {**shown, "id": other.source_id})

    def _earlier_error(self, fault: Fault, connection: Connection) -> Answer | None:
        with self._lock:
            errors = connection.errors if fault.same_connection else self._errors
            body = self._dice.choice(errors) if errors else None
        return Answer(400, body) if body else None

    def _error(self, code: str, parameter: str | None = None) -> Answer:
        with self._lock:
            self._numbers += 1
            number = self._numbers
        body = {
            "errorCode": code,
            "code": None,
            "message": "It was not possible.",
            "parameterName": parameter,
            "providerError": None,
        }
        if self.errors_show_request_id:
            body["requestId"] = f"req_{number:026d}"
        return Answer.of(500 if code.startswith("S") else 400, body)

    def _note_error(self, connection: Connection, error: Answer) -> None:
        with self._lock:
            self._errors.append(error.body)
            connection.errors.append(error.body)

    def _note_delivered(self, source: Source | None) -> None:
        if source is not None:
            with self._lock:
                self._delivered.append(source)

    def _read(self, request: Request) -> Answer:
        """Answer whatever changes nothing."""
        parts = request.parts
        if request.method != "GET":
            return self._error("M003000")
        if parts == ["payment-methods"]:
            return Answer.of(200, {"total": len(METHODS), "paymentMethods": METHODS})
        if len(parts) == 3 and parts[::2] == ["customers", "sources"]:
            return self._list(parts[1], request.query.get("paymentMethod", []))
        if len(parts) == 3 and parts[::2] == ["sources", "status"]:
            source = self.source(parts[1])
            if source is not None:
                return Answer.of(
                    200, {"id": source.source_id, "appId": "app_1", "liveMode": False, "status": "pending"}
                )
        return self._error("M002003", "id")

    def _list(self, customer: str, methods: Iterable[str]) -> Answer:
        if customer in self.unknown_customers:
            return self._error("M002003", "customerId")
        wanted = set(methods)
        with self._lock:
            lags = self.list_lags_seconds
            until = time.monotonic() - (lags[self.replica_of(customer)] if self.replica_of else self._dice.choice(lags))
            if self.lists_end_at is not None:
                until = min(until, self.lists_end_at)
            shown = [
                one.body()
                for one in self._by_customer.get(customer, [])
                if one.made_at <= until and (not wanted or one.method in wanted)
            ]
        return Answer.of(200, {"total": len(shown), "sources": shown})

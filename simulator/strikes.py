"""How a fault looks to the one who called: closed, hanging, cut, dripping and repeated answers."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Send

from simulator.answers import Answer
from simulator.operations import Elepay, Outcome
from simulator.wire import Connection, Recorder, send_answer, start_answer, write_surplus, write_surplus_later
from simulator.wrong_answers import SURPLUS, variant

#: How the statistics call a request that got no answer.
NO_ANSWER = "none"

_DRIPS = 10


async def carry_out(outcome: Outcome, elepay: Elepay, connection: Connection, receive: Receive, send: Send) -> None:
    """Count the fault that struck a request, then answer, or not."""
    await _Strike(elepay, connection, receive, send).carry_out(outcome)


class _Strike:
    """One fault on one connection."""

    def __init__(self, elepay: Elepay, connection: Connection, receive: Receive, send: Send) -> None:
        self._elepay = elepay
        self._connection = connection
        self._transport = connection.transport
        self._receive = receive
        self._send = send

    async def carry_out(self, outcome: Outcome) -> None:
        """Count the fault, then answer, or not."""
        fault, profile = outcome.strike.fault or "", self._elepay.profile
        self._elepay.tally.faults[fault] += 1
        answer = outcome.answer
        match fault:
            case "drop_before_commit" | "commit_then_drop_connection":
                await self._drop(reset=outcome.strike.spare < 0.5)
                return
            case "hang_before_commit":
                await self._gone_after(profile.hang_seconds)
                await self._drop(reset=True)
                return
            case "commit_then_hang":
                if await self._gone_after(profile.hang_seconds):
                    self._count(NO_ANSWER)
                    return
            case "late_commit":
                await asyncio.sleep(profile.late_commit_seconds)
                answer = outcome.late() if outcome.late else answer
            case "malformed_201":
                await self._malformed(answer, outcome.strike.spare)
                return
            case "slow_drip":
                await self._drip(answer, profile.drip_seconds)
                return
            case "http_1_0":
                Recorder(self._connection, old_version=True)
            case "repeated_answer":
                await self._repeat(answer, profile.repeat_seconds)
                return
            case "surplus_bytes":
                await self._repeat(answer, 0.0, variant(SURPLUS, outcome.strike.spare))
                return
        self._count(answer.label)
        await send_answer(self._send, answer)

    async def _repeat(self, answer: Answer, seconds: float, surplus: bytes | None = None) -> None:
        """Answer, and send the same bytes, or others, once more."""
        self._count(answer.label)
        recorder = Recorder(self._connection)
        await send_answer(self._send, answer)
        data = recorder.written if surplus is None else surplus
        if seconds:
            write_surplus_later(self._transport, data, seconds)
        else:
            write_surplus(self._transport, data)

    def _count(self, label: str) -> None:
        self._elepay.tally.answers[label] += 1

    async def _gone_after(self, seconds: float) -> bool:
        """Wait, and return True as soon as the caller has gone away."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    async def _drop(self, *, reset: bool, count: bool = True) -> None:
        """Close the connection without a further byte, by a reset or in order."""
        if count:
            self._count(NO_ANSWER)
        if reset:
            self._transport.abort()
        else:
            self._transport.close()
        await self._gone_after(1.0)

    async def _malformed(self, answer: Answer, spare: float) -> None:
        """Answer with a body that is cut, that is no JSON, or that ends before its own length."""
        self._count(answer.label)
        if spare < 1 / 3:
            await send_answer(self._send, answer._replace(body=answer.body[: len(answer.body) // 2]))
        elif spare < 2 / 3:
            await send_answer(self._send, answer._replace(body=b"<html><body>Created</body></html>"))
        else:
            await start_answer(self._send, answer)
            half = answer.body[: len(answer.body) // 2]
            await self._send({"type": "http.response.body", "body": half, "more_body": True})
            await self._drop(reset=False, count=False)

    async def _drip(self, answer: Answer, seconds: float) -> None:
        """Answer in ten pieces; stop when the caller has gone away."""
        self._count(answer.label)
        await start_answer(self._send, answer)
        piece = -(-len(answer.body) // _DRIPS)
        for start in range(0, len(answer.body), piece):
            if await self._gone_after(seconds / _DRIPS):
                return
            more = start + piece < len(answer.body)
            part = answer.body[start : start + piece]
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

"""Answers that mislead: other people's sources and errors, and contents that few readers expect."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from simulator.answers import Answer, json_answer
from simulator.state import Sources

#: So many sources and so many errors are remembered.
MAX_REMEMBERED = 100

#: Bytes that belong to nothing: line ends, the end of a JSON text or of a chunked body, the beginning of an answer.
SURPLUS = (b"\r\n", b"}\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n")
BOM = b"\xef\xbb\xbf"
BAD_IDS = ("src_0000\x000000", "src_支払い方法", "src_" + "0" * 296)
BAD_STATUS = "active\x00" + "pending " * 100

_INFO = b'"info":{}'
_ODD_INFOS = (b'"info":{"note":"\\ud800"}', b'"info":{"rate":NaN}')

T = TypeVar("T")


def variant(choices: Sequence[T], spare: float) -> T:
    """Return the choice that a number between 0 and 1 (1 excluded) stands for."""
    return choices[int(spare * len(choices))]


def changed_answer(fault: str, content: dict[str, Any], spare: float) -> Answer:
    """Return the answer of a created source, with what the fault changes in its content or its JSON."""
    match fault:
        case "wrong_live_mode":
            content["liveMode"] = not content["liveMode"]
        case "bad_id":
            content["id"] = variant(BAD_IDS, spare)
        case "bad_status":
            content["status"] = BAD_STATUS
    answer = json_answer(201, content)
    return answer._replace(body=_odd(answer.body, spare)) if fault == "odd_json" else answer


def _odd(body: bytes, spare: float) -> bytes:
    """Return JSON that says the same, with a BOM in front or with something odd in `info`."""
    info = variant((_INFO, *_ODD_INFOS), spare)
    return BOM + body if info is _INFO else body.replace(_INFO, info, 1)


class Said:
    """The last answers of createSource that were sent to the end, to be sent again to somebody else.

    What is under way does not count: whoever got it first could not know that it is another's.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._positions: deque[int] = deque(maxlen=MAX_REMEMBERED)
        self._errors: deque[tuple[str, Answer]] = deque(maxlen=MAX_REMEMBERED)

    def add_source(self, position: int) -> None:
        """Remember a source that its caller knows by its id."""
        self._positions.append(position)

    def add_error(self, customer_id: str, answer: Answer) -> None:
        """Remember an error."""
        self._errors.append((customer_id, answer))

    def source_of_another(self, position: int, spare: float) -> int | None:
        """Return the position of another customer's source in the same world, or None if there was none yet."""
        own = self._sources.record(position)
        others = [
            each
            for each in self._positions
            if (record := self._sources.record(each)).customer_id != own.customer_id
            and record.live_mode == own.live_mode
        ]
        return variant(others, spare) if others else None

    def error_of_another(self, customer_id: str, spare: float) -> Answer | None:
        """Return an error that another customer's request got, or None if there was none yet."""
        others = [answer for other, answer in self._errors if other != customer_id]
        return variant(others, spare) if others else None

"""Lets a worker take only messages as this program sends them; any other is dropped with a word in the log.

Celery would end over some of them, put them back, and end again, so that nothing behind them is ever sent. Others it
would hold for years (`eta`), or answer by tasks of its own. Nothing is lost with a message: what is due is dispatched
again from the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from kombu.message import Message

from tasks.celery_tasks import ARGUMENTS

log = structlog.get_logger("onboard")

#: Ledgers and Redis hold no larger number.
LARGEST_NUMBER = 2**63 - 1


class CheckedConsumer(Consumer):
    """Celery's consumer behind a check of what arrives."""

    def create_task_handler(self, *arguments: Any, **more: Any) -> Callable[[Message], Any]:
        """Return what takes a message off the queue."""
        take = super().create_task_handler(*arguments, **more)

        def checked(message: Message) -> None:
            fault = fault_of(message)
            if fault:
                self._drop(message, fault)
                return
            take(message)

        return checked

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Drop what cannot be unpacked."""
        self._drop(message, f"its body cannot be read: {type(exc).__name__}")

    def _drop(self, message: Message, fault: str) -> None:
        log.warning("a message that this program does not send was dropped", why=fault)
        message.reject_log_error(log, self.connection_errors)  # type: ignore[no-untyped-call]


def fault_of(message: Message) -> str:
    """Return what a message has that none of ours has, in words that quote nothing; "" if it is one of ours."""
    headers = message.headers
    if not isinstance(headers, dict) or not isinstance(headers.get("id"), str):
        return "its head has no id"
    task = headers.get("task")
    if not isinstance(task, str) or task not in ARGUMENTS:
        return "it names a task that there is not"
    if headers.get("eta") is not None or headers.get("timelimit") not in (None, [None, None]):
        return "it asks for a time"
    if type(headers.get("retries", 0)) is not int:
        return "it has odd retries"
    try:
        content = message.decode()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - whatever a body can do to a decoder
        return f"its body cannot be read: {type(error).__name__}"
    return _fault_of_content(content, ARGUMENTS[task])


def _fault_of_content(content: object, arguments: int) -> str:
    match content:
        case [[*numbers], {} as words, None | {} as following] if not words:
            if len(numbers) != arguments or not all(map(_is_number, numbers)):
                return "its task is given something else than its numbers"
            return "something is to follow it" if any((following or {}).values()) else ""
    return "its body has another form"


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_NUMBER

"""What kind of work a row is, for those who share it out: to call a customer, to correct a file, to decide."""

from __future__ import annotations

from tasks.models import RowState
from tasks.reason_texts import hint_key

#: In the order in which a page lists them.
KINDS = ("contact", "correct", "decide", "clear_up", "send")
#: Hints of refused rows that ask for another value in the file.
_CORRECT = frozenset(
    {"customer", "enable", "other_method", "resource", "value", "method_closed", "not_sendable", "request_too_long"}
)


def kind_of(state: str, code: str) -> str:
    """Return the kind of work of a row that needs a person, by its state and its first reason."""
    if state == RowState.INVALID:
        return "correct"
    if state == RowState.UNCLEAR:
        return "decide"
    if state != RowState.REFUSED:
        return "send"
    key = hint_key(code)
    return "contact" if key == "ask" else "correct" if key in _CORRECT else "clear_up"

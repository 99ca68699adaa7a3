"""What stands for a customer where screens are shared: enough to recognise one that is known, not to find one out."""

from __future__ import annotations

from tasks.models import Reason

_PREFIX = "cus_"
_MOST_SHOWN = 4
#: The values of these are numbers, or words of elepay's.
_NOT_MASKED = frozenset(
    {
        "too_few_fields",
        "too_many_fields",
        "too_many_entries",
        "auto_needs_cpm",
        "method_holds_no_source",
        "method_not_enabled",
    }
)
#: The values of these are meant to be such words; what is none, a customer id in the wrong column perhaps, is masked.
_WORDS = frozenset({"unknown_payment_method", "unknown_resource"})


def mask(value: str) -> str:
    """Return the end of a value, at most a third of it: `cus_…a1b2`; nothing for nothing."""
    prefix = _PREFIX if value.startswith(_PREFIX) else ""
    shown = min(len(value.removeprefix(prefix)) // 3, _MOST_SHOWN)
    return f"{prefix}…{value[len(value) - shown :]}" if value else ""


def masked(reason: Reason) -> Reason:
    """Return a reason without what it repeats of a customer."""
    is_word = reason.code in _WORDS and reason.value.isascii() and reason.value.isalpha()
    return reason if is_word or reason.code in _NOT_MASKED else reason._replace(value=mask(reason.value))

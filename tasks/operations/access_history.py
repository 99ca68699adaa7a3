"""Who saw personal data, took files away, or wanted what they may not: lines of the history."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.services import Services

#: How the history says that somebody sees a row's personal data.
LOOK = "saw personal data"


def record_looks(services: Services, batch_id: int, records: Sequence[int], *, who: str) -> None:
    """Write down that somebody sees the personal data of rows of a batch."""
    services.ledger.history.note_each(batch_id, records, LOOK, who)


def record_download(services: Services, batch_id: int, file: str, *, who: str) -> None:
    """Write down that somebody takes a file of a batch away."""
    services.ledger.history.note(batch_id, 0, f"downloaded {file}", who)


def record_refusal(services: Services, what: str, role: str, *, who: str, batch_id: int = 0) -> None:
    """Write down that somebody wanted to do what their role does not include; `what` is the address of the deed."""
    services.ledger.history.note(batch_id, 0, f"not allowed: {what} needs the role {role}", who)


def record_refused_sign_in(services: Services, *, who: str = "") -> None:
    """Write down that somebody could not sign in; `who` is a name that is known, never what was typed otherwise."""
    services.ledger.history.note(0, 0, "sign-in refused", who)

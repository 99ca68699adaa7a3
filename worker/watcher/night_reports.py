"""The reports so far of a batch that the nightly window left unfinished."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tasks.ledger import Ledger
from tasks.models import RowState
from tasks.send_window import Window
from worker.inboxes.names import name_of_reports
from worker.inboxes.protocol import Claim


class NightReports:
    """Decides when they are due, and what they are called."""

    def __init__(self, ledger: Ledger, window: Window, time_zone: str) -> None:
        self._ledger, self._window, self._zone = ledger, window, ZoneInfo(time_zone)

    def window_closed_at(self) -> float | None:
        """Return when the window last closed, in epoch seconds; None while it is open."""
        now = self._ledger.now()
        if self._window.is_open(now):
            return None
        return self._window.span(now - timedelta(days=1).total_seconds()).closes_at

    def name(self, claim: Claim, batch_id: int, closed_at: float) -> str:
        """Return the name under which they are published."""
        day = datetime.fromtimestamp(closed_at, self._zone)
        return f"{name_of_reports(batch_id, claim.name)}-night-{day:%Y-%m-%d}"

    def are_due(self, claim: Claim, batch_id: int) -> bool:
        """Return whether the window has closed on a running batch, and no reports have been published since."""
        closed_at = self.window_closed_at()
        if closed_at is None or self.name(claim, batch_id, closed_at) in claim.facts.get("outbox", {}):
            return False
        return float(claim.facts["claimed_at"]) < closed_at and not self._is_sending(batch_id)

    def _is_sending(self, batch_id: int) -> bool:
        count = self._ledger.queries.count_states(batch_id)
        return bool(count.get(RowState.CLAIMED) or count.get(RowState.SENDING))

"""`onboard pause`, `resume`, `approve`, `cancel`: what people decide about a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.errors import BadValue, SettingsError
from tasks.operations.approve import approve as approve_batch
from tasks.operations.approve import is_first_of_two, require_approvable
from tasks.operations.cancel import cancel as cancel_batch
from tasks.operations.cancel import require_cancellable
from tasks.operations.pause import pause as pause_batch
from tasks.operations.resume import NewOrders, require_resumable
from tasks.operations.resume import resume as resume_batch
from tasks.send_window import Window
from tasks.services import Services
from worker.commands.batch_result import say_of_batch
from worker.commands.sending import ReportOptions, go_on
from worker.operator_identity import who
from worker.questions import is_answerable, require_yes
from worker.screen import Screen


def pause(services: Services, batch_id: int, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Send nothing more of a batch until it is resumed."""
    status = pause_batch(services, batch_id, who=who())
    return say_of_batch(screen, status, "batch_is_paused")


class NewWindow(NamedTuple):
    """How somebody wants the nightly window of a batch to be from now on; nothing given: as it is."""

    not_before: str | None = None
    until: str | None = None
    at_any_time: bool = False

    def read(self, zone: str) -> Window | None:
        """Return the new window; None: as it is. Raises SettingsError."""
        if not self.at_any_time and self.not_before is None and self.until is None:
            return None
        if self.at_any_time and (self.not_before or self.until):
            raise SettingsError("--at-any-time takes the window away: give it, or --not-before and --until")
        try:
            return Window.of(self.not_before or "", self.until or "", zone)
        except BadValue as error:
            raise SettingsError("--not-before and --until: {why}", why=error) from None


def resume(
    services: Services,
    batch_id: int,
    new: NewWindow,
    screen: Screen,
    reports: ReportOptions,
    *,
    verify_first: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Let a stopped batch go on: with the fleet or the watcher that is at work, else in this command.

    With `verify_first` each row is looked up before it is sent.
    """
    orders = NewOrders(new.read(services.settings.time_zone), verify_first)
    if require_resumable(services, batch_id, orders):
        resumed = resume_batch(services, batch_id, orders, who=who())
        return say_of_batch(screen, resumed.status, "batch_goes_on_with_orders")

    def decide() -> str:
        resume_batch(services, batch_id, orders, who=who())
        return screen.texts("batch_goes_on", batch=str(batch_id))

    return go_on(services, batch_id, screen, decide, "resume", reports)


def approve(services: Services, batch_id: int, screen: Screen, reports: ReportOptions) -> tuple[int, dict[str, Any]]:
    """Let a batch run that waits for approval: with the fleet or the watcher, else in this command."""
    require_approvable(services, batch_id)
    if is_first_of_two(services, batch_id):
        status = approve_batch(services, batch_id, who=who())
        return say_of_batch(screen, status, "batch_has_one_approval")

    def decide() -> str:
        approve_batch(services, batch_id, who=who())
        return screen.texts("batch_is_approved", batch=str(batch_id))

    return go_on(services, batch_id, screen, decide, "approve", reports)


def cancel(services: Services, batch_id: int, screen: Screen, *, yes: bool) -> tuple[int, dict[str, Any]]:
    """Give a batch up; what was not sent never is. Raises Declined."""
    if not yes and is_answerable():
        unsent = require_cancellable(services, batch_id).counts.open
        require_yes(screen, "ask_cancel", count=unsent, batch=str(batch_id))
    status = cancel_batch(services, batch_id, who=who())
    return say_of_batch(screen, status, "batch_is_cancelled")

"""Delivers notifications: each once through each channel, over crashes and dead mail servers.

The ledger is the memory: a notification is written in the transaction of its event, and any process that reaps delivers
it. Each channel has a thread of its own in each process:

1. notifications that are new for the channel become due deliveries
2. a process claims a due delivery; the claim is a lease, so that another process delivers it if this one dies
3. the channel delivers it, and the ledger records that; or it is due again after a gap that doubles
4. a delivery that has failed for a day is abandoned, and logged

A process that dies after a delivery and before its record causes a second one: at least once, and usually once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

import structlog

from tasks.errors import LedgerError, UnusableFile
from tasks.ledger import ClaimedDelivery, Ledger
from tasks.models import Batch, BatchState, Notification, NotificationKind, Stop, StopCode
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import batch_status
from tasks.operations.digest import digest
from tasks.operations.open_work import count_open_work, list_open_work
from tasks.reports.digest_message import compose_digest
from tasks.reports.i18n import Texts
from tasks.reports.notification_message import BatchNews, Message, compose
from tasks.send_window import time_of_day
from tasks.services import Services
from worker.inboxes.names import name_of_reports
from worker.notification_channels import Channel, open_channels

log = structlog.get_logger("onboard")

#: How often a channel's thread looks for notifications.
LOOK_SECONDS = 2.0
#: A notification is delivered after so long, so that the reports exist when people read it.
SETTLE_SECONDS = 10.0
#: One about a stopped batch waits until no worker holds its rows, at most so long.
LONGEST_SETTLE_SECONDS = 120.0
#: How often unattended batches are looked for, and how long rows must have been due before a notification.
ATTEND_SECONDS = 10.0
UNATTENDED_SECONDS = 300.0
#: The lease of a claimed delivery: longer than a channel can take.
LEASE_SECONDS = 180.0
#: The longest gap between two tries, and after how long a delivery is abandoned.
LONGEST_GAP_SECONDS = 4 * 3600.0
ABANDON_SECONDS = 24 * 3600.0
#: A command waits so long for its last deliveries when it ends, and so long when it was interrupted.
PATIENCE_SECONDS = 15.0
HURRY_SECONDS = 2.0


class Notifier:
    """Delivers notifications through channels, in threads, until `finish`; `digests`: adds the one of each day too."""

    def __init__(
        self,
        services: Services,
        channels: list[Channel],
        *,
        digests: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        attend_seconds: float = ATTEND_SECONDS,
    ) -> None:
        self._services = services
        self._names = [channel.name for channel in channels]
        self._lease_seconds, self._settle_seconds, self._look_seconds = lease_seconds, settle_seconds, look_seconds
        self._attend_seconds = attend_seconds
        self._digest_of = ""  # the day whose digest was added, by whoever it was
        self._digest_at = services.settings.digest_at if digests else ""
        self._started = time.monotonic()
        self._finishing = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(channel,), name=f"notify {channel.name}", daemon=True)
            for channel in channels
        ]
        self._threads.append(threading.Thread(target=self._attend, name="attend", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Deliver what is left, settled or not, and end; wait for that no longer than `seconds`."""
        ends = time.monotonic() + seconds
        self._finishing.set()
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _run(self, channel: Channel) -> None:
        is_registered, is_last, failure = False, False, ""
        while not is_last:
            is_last = self._finishing.wait(self._look_seconds)
            try:
                if not is_registered:
                    self._register_channels()
                    is_registered = True
                self._deliver_due(channel, at_once=is_last)
                failure = ""
            except Exception as error:  # noqa: BLE001 - the door of a thread: the next try may succeed
                if type(error).__name__ != failure:
                    failure = type(error).__name__
                    log.warning("notification failed, trying again", channel=channel.name, error=failure)

    def _register_channels(self) -> None:
        """Let the ledger know the channels, as of the start of this process: they deliver nothing older."""
        ledger = self._services.ledger
        ledger.outbox.register_channels(self._names, ledger.now() - (time.monotonic() - self._started))

    def _attend(self) -> None:
        """Add notifications about batches that nobody works on any more, and the digest of the day."""
        unattended: UnattendedBatches | None = None
        while not self._finishing.wait(self._attend_seconds):
            with contextlib.suppress(LedgerError):  # the channels' threads log it
                unattended = unattended or UnattendedBatches(self._services.ledger)
                self._add_digest_if_due()
                unattended.notify()

    def _add_digest_if_due(self) -> None:
        """Add the latest digest that is due, whichever process is first; late, if nobody was there in time."""
        if self._digest_at:
            ledger = self._services.ledger
            day = latest_day(self._digest_at, self._services.settings.time_zone, ledger.now())
            if day != self._digest_of and ledger.outbox.add_digest(day):
                log.info("digest due", day=day)
            self._digest_of = day

    def _deliver_due(self, channel: Channel, *, at_once: bool) -> None:
        """Deliver all that is due for a channel now; `at_once`: without waiting for it to settle."""
        ledger = self._services.ledger
        ledger.outbox.plan(channel.name, self._settled(channel, at_once=at_once))
        while claimed := ledger.outbox.claim(channel.name, self._lease_seconds):
            self._deliver(channel, claimed)

    def _settled(self, channel: Channel, *, at_once: bool) -> list[int]:
        """Return the new notifications of a channel that can be delivered; those of a batch keep their order."""
        ledger, now = self._services.ledger, self._services.ledger.now()
        newest_at = now if at_once else now - self._settle_seconds
        due, waiting = [], set()
        for notification in ledger.outbox.unplanned(channel.name, newest_at, now - ABANDON_SECONDS):
            batch_id = notification.batch_id
            if at_once or (batch_id not in waiting and self._has_settled(notification, now)):
                due.append(notification.id)
            else:
                waiting.add(batch_id)
        return due

    def _has_settled(self, notification: Notification, now: float) -> bool:
        """Return whether the counts of a stopped batch are final: rows under way are recorded first."""
        kind, batch_id = notification.kind, notification.batch_id
        if kind not in (NotificationKind.PAUSED, NotificationKind.HALTED) or batch_id is None:
            return True
        is_late = now - notification.at > LONGEST_SETTLE_SECONDS
        return is_late or batch_lifecycle.is_over(self._services.ledger, batch_id)

    def _deliver(self, channel: Channel, claimed: ClaimedDelivery) -> None:
        notification, failure = claimed.notification, "not taken"
        try:
            succeeded = channel.send(message_of(self._services, notification))
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a channel does, its text may hold an address
            succeeded, failure = False, type(error).__name__
        if succeeded:
            self._services.ledger.outbox.record_delivered(notification.id, channel.name)
            log.info("notification delivered", **_log_fields(channel, claimed))
        else:
            self._retry_later(channel, claimed, failure)

    def _retry_later(self, channel: Channel, claimed: ClaimedDelivery, failure: str) -> None:
        """Let a failed delivery be due again after a gap, or abandon it if it is too old by then."""
        ledger, gap = self._services.ledger, self._services.settings.notify_gap_seconds
        due_at = ledger.now() + min(gap * 2 ** (claimed.tries - 1), LONGEST_GAP_SECONDS)
        is_abandoned = due_at > claimed.notification.at + ABANDON_SECONDS
        ledger.outbox.put_off(claimed, channel.name, None if is_abandoned else due_at)
        if is_abandoned:
            log.error("notification abandoned after retries", error=failure, **_log_fields(channel, claimed))
        else:
            log.warning("notification failed, trying again", error=failure, **_log_fields(channel, claimed))


def _log_fields(channel: Channel, claimed: ClaimedDelivery) -> dict[str, str | int | None]:
    notification = claimed.notification
    return {
        "what": notification.kind.value,
        "batch": notification.batch_id,
        "channel": channel.name,
        "tries": claimed.tries,
    }


class UnattendedBatches:
    """Batches that nobody works on: at once if their command is gone, else when rows have been due for long."""

    def __init__(
        self, ledger: Ledger, seconds: float = UNATTENDED_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._seconds, self._clock = ledger, seconds, clock
        self._since: dict[int, float] = {}  # batch -> since when no worker holds a row of it

    def notify(self) -> None:
        """Add a notification for each of them, once for each time. Raises LedgerError."""
        now = self._clock()
        unattended = self._ledger.batches.unattended()
        self._since = {batch.id: self._since.get(batch.id, now) for batch in unattended}
        for batch in unattended:
            if batch.state is BatchState.INTERRUPTED:
                self._notify_interrupted(batch)
            elif now - self._since[batch.id] >= self._seconds:
                self._notify_unattended(batch)

    def _notify_interrupted(self, batch: Batch) -> None:
        why = Stop(StopCode.COMMAND_ENDED, {"batch": batch.id}).encode()
        once = f"interrupted {batch.id} {batch.runner}"
        self._ledger.outbox.add(NotificationKind.INTERRUPTED, once=once, batch_id=batch.id, why=why)

    def _notify_unattended(self, batch: Batch) -> None:
        why = Stop(StopCode.UNATTENDED).encode()
        once = f"unattended {batch.id} {time.strftime('%Y-%m-%d', time.gmtime(self._ledger.now()))}"
        if self._ledger.outbox.add(NotificationKind.UNATTENDED, once=once, batch_id=batch.id, why=why):
            log.warning("rows are due and nobody takes them", batch=batch.id)


def latest_day(text: str, zone: str, now: float) -> str:
    """Return the day (YYYY-MM-DD) on which it was last so late (HH:MM) in a time zone."""
    today = datetime.fromtimestamp(now, ZoneInfo(zone)).date()
    due_at = datetime.combine(today, time_of_day(text), ZoneInfo(zone)).timestamp()  # where clocks go back: the first
    return str(today if now >= due_at else today - timedelta(days=1))


@contextlib.contextmanager
def notifying(
    services: Services, patience_seconds: float = PATIENCE_SECONDS, *, digests: bool = False
) -> Iterator[None]:
    """Deliver notifications during the block, and at its end those that are left.

    Does nothing without channels. Raises SettingsError for a malformed one.
    """
    notifier = start(services, digests=digests)
    if notifier is None:
        yield
        return
    try:
        yield
    except UnusableFile:
        notifier.finish(patience_seconds)
        raise
    notifier.finish(HURRY_SECONDS if services.ledger.hurries else patience_seconds)


def start(services: Services, *, digests: bool = False) -> Notifier | None:
    """Deliver notifications in threads until this process ends; None if there is no channel.

    `digests`: add the one of each day as well, as every process does that is there all day.
    """
    channels = open_channels(services.settings)
    if not channels:
        return None
    notifier = Notifier(services, channels, digests=digests)
    notifier.start()
    return notifier


def message_of(services: Services, notification: Notification) -> Message:
    """Build the message of a notification from what the ledger says now. Raises LedgerError: then nothing is said."""
    settings = services.settings
    texts = Texts(settings.lang, settings.time_zone)
    if notification.kind is NotificationKind.DIGEST:
        address = f"{settings.console_url.rstrip('/')}/open" if settings.console_url else ""
        return compose_digest(notification, texts, digest(services), live=settings.live, address=address)
    batch_id = notification.batch_id
    of = None if batch_id is None else _batch_news(services, batch_id)
    return compose(notification, texts, live=settings.live, of=of)


def _batch_news(services: Services, batch_id: int) -> BatchNews:
    status = batch_status(services, batch_id, count_skipped=True)
    return BatchNews(
        status.batch,
        status.counts,
        status.work,
        (status.skipped or {}).get("changed", 0),
        list_open_work(services, batch_id),
        count_open_work(services).rows - status.work.open,
        _link(services, status.batch),
    )


def _link(services: Services, batch: Batch) -> str:
    """Return where the reports are: an address, a folder on this machine, or what to type."""
    if console := services.settings.console_url:
        return f"{console.rstrip('/')}/batches/{batch.id}"
    if batch.state is BatchState.UNUSABLE:
        return f"onboard status {batch.id}"
    url, name = services.settings.reports_url, name_of_reports(batch.id, batch.name)
    if "{folder}" in url:
        return url.replace("{folder}", quote(name))
    if url:
        return f"{url.rstrip('/')}/{batch.id}"
    published = services.settings.drop_folder / "outbox" / name
    if published.is_dir():
        return str(published.absolute())
    if str(batch.id) in services.reports.list():
        return services.reports.folder(str(batch.id)).location
    return f"onboard report {batch.id}"

"""Telling people what happened to a batch, once through each channel, over crashes and dead mail servers.

The ledger is the memory: news is written in the transaction of what happened; whoever sweeps tells it. Each channel has
a thread of its own in each process:

1. news that is new for the channel becomes due
2. a process claims what is due; the claim is a lease, so that somebody else tells it if this process dies
3. the channel tells it, and the ledger remembers that; or it is due again after a gap that doubles
4. what could not be told for a day is given up, and logged

A process that dies between 3 and its memory tells twice: people are told at least once, and mostly once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import structlog

from tasks.errors import LedgerError, UnusableFile
from tasks.ledger import ClaimedDelivery, Ledger
from tasks.models import Batch, BatchState, Notification, NotificationKind
from tasks.operations import batch_lifecycle
from tasks.reports.i18n import Texts
from tasks.reports.notification_message import Message, compose
from tasks.services import Services
from worker.dropped_names import name_of_reports
from worker.notification_channels import Channel, open_channels

log = structlog.get_logger("onboard")

#: How often a channel's thread looks for news.
LOOK_SECONDS = 2.0
#: News rests for so long, so that the reports are there when people look; a stopped batch until nobody holds its rows.
RIPE_SECONDS = 10.0
RIPE_AT_LAST_SECONDS = 120.0
#: How often it is looked whether batches are left alone, and for how long rows must be due before that is news.
ATTEND_SECONDS = 10.0
UNATTENDED_SECONDS = 300.0
#: A claim: longer than a channel can take.
LEASE_SECONDS = 180.0
#: The longest gap between two tries, and after how long news is old.
MOST_GAP_SECONDS = 4 * 3600.0
GIVE_UP_SECONDS = 24 * 3600.0
#: A command that ends waits so long for its last news to be told, and one that was told to end so long.
PATIENCE_SECONDS = 15.0
HURRY_SECONDS = 2.0


class Notifier:
    """Tells news through channels until it is told to finish."""

    def __init__(
        self,
        services: Services,
        channels: list[Channel],
        *,
        lease_seconds: float = LEASE_SECONDS,
        ripe_seconds: float = RIPE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._ours = services
        self._names = [channel.name for channel in channels]
        self._lease_seconds, self._ripe_seconds, self._look_seconds = lease_seconds, ripe_seconds, look_seconds
        self._started = time.monotonic()
        self._last = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(channel,), name=f"tell {channel.name}", daemon=True)
            for channel in channels
        ]
        self._threads.append(threading.Thread(target=self._attend, name="attend", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Tell what there is to tell, ripe or not, and end; wait for that no longer than `seconds`."""
        ends = time.monotonic() + seconds
        self._last.set()
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _run(self, channel: Channel) -> None:
        known, last, troubled = False, False, ""
        while not last:
            last = self._last.wait(self._look_seconds)
            try:
                if not known:
                    since = self._ours.ledger.now() - (time.monotonic() - self._started)
                    self._ours.ledger.outbox.register_channels(self._names, since)
                    known = True
                self._tell_all(channel, at_once=last)
                troubled = ""
            except Exception as error:  # noqa: BLE001 - the door of a thread: the next look may go well
                if type(error).__name__ != troubled:
                    troubled = type(error).__name__
                    log.warning("telling people failed, trying again", channel=channel.name, error=troubled)

    def _attend(self) -> None:
        """Let people be told of batches that nobody works on any more."""
        attending = Attending(self._ours.ledger)
        while not self._last.wait(ATTEND_SECONDS):
            with contextlib.suppress(LedgerError):  # the channels' threads say so
                attending.look()

    def _tell_all(self, channel: Channel, *, at_once: bool) -> None:
        """Tell everything that is due for a channel now; `at_once`: without waiting for it to be ripe."""
        ledger, now = self._ours.ledger, self._ours.ledger.now()
        newest_at = now if at_once else now - self._ripe_seconds
        new = ledger.outbox.unplanned(channel.name, newest_at, now - GIVE_UP_SECONDS)
        due, unripe = [], set()  # what came later in a batch waits for what came before
        for one in new:
            if at_once or (one.batch_id not in unripe and self._is_ripe(one, now)):
                due.append(one.id)
            else:
                unripe.add(one.batch_id)
        ledger.outbox.plan(channel.name, due)
        while claimed := ledger.outbox.claim(channel.name, self._lease_seconds):
            self._tell(channel, claimed)

    def _is_ripe(self, news: Notification, now: float) -> bool:
        """Tell whether the books of a stopped batch stand still: what was under way is written first."""
        if news.kind not in (NotificationKind.PAUSED, NotificationKind.HALTED) or news.batch_id is None:
            return True
        return now - news.at > RIPE_AT_LAST_SECONDS or batch_lifecycle.is_over(self._ours.ledger, news.batch_id)

    def _tell(self, channel: Channel, claimed: ClaimedDelivery) -> None:
        news, ledger = claimed.notification, self._ours.ledger
        about = {"what": news.kind.value, "batch": news.batch_id, "channel": channel.name, "tries": claimed.tries}
        trouble = "not taken"
        try:
            told = channel.send(message_of(self._ours, news))
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a channel does, its text may hold an address
            told, trouble = False, type(error).__name__
        if told:
            ledger.outbox.record_delivered(news.id, channel.name)
            log.info("people told", **about)
            return
        now = ledger.now()
        due_at = now + min(self._ours.settings.notify_gap_seconds * 2 ** (claimed.tries - 1), MOST_GAP_SECONDS)
        given_up = due_at > news.at + GIVE_UP_SECONDS
        ledger.outbox.put_off(claimed, channel.name, None if given_up else due_at)
        if given_up:
            log.error("notification abandoned after retries", error=trouble, **about)
        else:
            log.warning("notification failed, trying again", error=trouble, **about)


class Attending:
    """Notices batches that are left alone: at once if their command is gone, else when rows have been due for long."""

    def __init__(
        self, ledger: Ledger, seconds: float = UNATTENDED_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger, self._seconds, self._clock = ledger, seconds, clock
        self._since: dict[int, float] = {}  # batch -> since when nobody holds a row of it

    def look(self) -> None:
        """Write news of what is left alone, once for each time. Raises LedgerError."""
        now = self._clock()
        found = self._ledger.batches.unattended()
        self._since = {batch.id: self._since.get(batch.id, now) for batch in found}
        for batch in found:
            if batch.state is BatchState.INTERRUPTED:
                why = f"the command that sent it has ended; onboard resume {batch.id} goes on"
                once = f"interrupted {batch.id} {batch.runner}"
                self._ledger.outbox.add(NotificationKind.INTERRUPTED, once=once, batch_id=batch.id, why=why)
            elif now - self._since[batch.id] >= self._seconds:
                why = "rows are due, and for minutes nobody has taken one: are workers running, and does Redis deliver?"
                once = f"unattended {batch.id} {time.strftime('%Y-%m-%d', time.gmtime(self._ledger.now()))}"
                if self._ledger.outbox.add(NotificationKind.UNATTENDED, once=once, batch_id=batch.id, why=why):
                    log.warning("rows are due and nobody takes them", batch=batch.id)


@contextlib.contextmanager
def telling(services: Services, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Tell people what happens inside of the block, and at its end what is still to be told.

    Does nothing without channels. Raises SettingsError for a malformed one.
    """
    teller = start(services)
    if teller is None:
        yield
        return
    try:
        yield
    except UnusableFile:
        teller.finish(patience_seconds)
        raise
    teller.finish(HURRY_SECONDS if services.ledger.hurries else patience_seconds)


def start(services: Services) -> Notifier | None:
    """Start to tell people in threads, until this process ends; None if there is no channel."""
    channels = open_channels(services.settings)
    if not channels:
        return None
    teller = Notifier(services, channels)
    teller.start()
    return teller


def message_of(services: Services, news: Notification) -> Message:
    """Put the message of a piece of news together, from the ledger as it stands now."""
    settings = services.settings
    texts = Texts(settings.lang, settings.time_zone)
    if news.batch_id is None:
        return compose(news, texts, batch=None, books=None, codes={}, link="")
    batch, books = services.ledger.batches.get(news.batch_id), services.ledger.queries.counts(news.batch_id)
    codes = services.ledger.queries.count_codes(news.batch_id)
    return compose(news, texts, batch=batch, books=books, codes=codes, link=_link(services, batch))


def _link(services: Services, batch: Batch) -> str:
    """Return where the reports are: an address, a folder of this machine, or what to type."""
    if batch.state is BatchState.UNUSABLE:
        return f"onboard status {batch.id}"
    url, name = services.settings.reports_url, name_of_reports(batch.id, batch.name)
    if "{folder}" in url:
        return url.replace("{folder}", quote(name))
    if url:
        return f"{url.rstrip('/')}/{batch.id}"
    handed_out = services.settings.drop_folder / "outbox" / name
    if handed_out.is_dir():
        return str(handed_out.absolute())
    if services.reports.is_dir():
        return str((services.reports / str(batch.id)).absolute())
    return f"onboard report {batch.id}"

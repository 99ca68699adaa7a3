"""`onboard watch`: takes dropped files when they are complete, and brings each of them to its end, night after night.

The folder is only the trigger; what became of a file stands in the ledger. Each step of a claim may be done again, so
a watcher that is killed anywhere goes on where it stopped, and so does another one in its place:

1. claimed: its owner is in the folder's name, so it is taken over once that owner is dead
2. read: before the file is accepted, claim.json says which batches of this content were there already, so that a
   batch that came afterwards is known for its own; the ledger has one unfinished batch of one content
3. over: the reports are written, copied to the outbox, and the claim moves to the archive, in this order, each whole
4. compared with what was read, then and for an hour after: a file whose upload went on comes back to the inbox
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog
import watchfiles
from rich.console import Console
from rich.text import Text

from tasks import accept, reason_texts, report_builder
from tasks.accept import load_mapping
from tasks.errors import UnusableFile
from tasks.ledger import WATCH, Ledger
from tasks.models import Batch, BatchState, NotificationKind, RowState
from tasks.operations import accept_batch, batch_lifecycle
from tasks.reports import FILES, Notice, write_notice
from tasks.services import Services
from worker import late_uploads, terminal
from worker.commands import run
from worker.drop_folder import REPORTS, Claim, DropFolder, Dropped
from worker.dropped_names import name_of_reports, stem_of
from worker.health_server import HealthServer, Pulse, serve
from worker.late_uploads import LookBack
from worker.troubles import NotTaken, Troubles, why_of
from worker.worker_pool import TICK_SECONDS, reap_and_dispatch

log = structlog.get_logger("onboard")

#: Batches of this watcher that may run at once; what was dropped besides waits unread.
RUNNING_AT_ONCE = 50
#: How often the ledger is reaped and dispatched while nothing of this watcher runs, in seconds.
IDLE_SECONDS = 1.0
#: So many files are claimed before they are read: the first need not wait for the last, others have their share.
CLAIMED_AHEAD = 8
#: How often a sign of life is given to the other watchers of the folder, in seconds.
BEAT_SECONDS = 5.0
#: Files that were put away are looked at again after so many times ONBOARD_SCAN_SECONDS.
LOOK_BACK_SCANS = 6
#: Exit codes, as of `onboard run`.
NEED_A_PERSON, STOPPED = 1, 3
#: Such a file may be usable later.
_LATER = ("unreadable_file", "changed_while_reading")
#: States of a batch that has this content for good.
_KNOWN = (*batch_lifecycle.GOES_ON, BatchState.FINISHED, BatchState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Options:
    """What `onboard watch` was told."""

    folder: Path | None = None
    workers: int | None = None
    no_workers: bool = False
    mapping: Path | None = None
    canary: int | None = None
    verify_first: bool = False
    lang: str | None = None
    excel_safe: bool = False
    once: bool = False


@dataclass(slots=True)
class Counts:
    """What this watcher has done since it started."""

    taken: int = 0
    archived: int = 0
    rejected: int = 0
    already_onboarded: int = 0


@dataclass
class InHand:
    """A claim on its way: to be read, then running as a batch, then to be put away."""

    claim: Claim
    batch_id: int | None = None
    unusable: UnusableFile | None = None
    repeats: bool = False  #: another file had this content before, in `batch_id`
    waits_for_a_person: bool = False
    try_at: float = 0.0  #: by the monotonic clock: not before

    @property
    def is_read(self) -> bool:
        """True once it is known what it is."""
        return self.batch_id is not None or self.unusable is not None


class Job(NamedTuple):
    """A claim that a thread is busy with; the loop keeps its hands off it."""

    one: InHand
    future: Future[None]


def watch(services: Services, options: Options, console: Console) -> tuple[int, dict[str, Any]]:
    """Take files from the drop folder until told to stop, or (`once`) until all that is there has come to its end."""
    services.settings.require_key()
    if options.mapping is not None:
        load_mapping(options.mapping)  # what is wrong with it is said now and not with the first file
    with run.at_work(services, console, WATCH, workers=options.workers, no_workers=options.no_workers) as work:
        run.sendable_methods(services)  # the same of the key
        accept.load()
        watcher = Watcher(services, options, work)
        watcher.folder.make()
        pages = partial(HealthServer, services, pulses={"watcher": watcher.pulse})
        serve(pages, services.settings.metrics_host, services.settings.metrics_port)
        console.print(Text(f"watching {watcher.folder.inbox}"), soft_wrap=True)
        with work.interrupts.counted():
            code = watcher.run()
    return code, {
        "verdict": "watch",
        "folder": str(watcher.folder.root),
        **{name: getattr(watcher.counts, name) for name in Counts.__slots__},
        "unfinished": watcher.in_hand,
    }


class Watcher:
    """One watcher of one folder; several may share the folder if they share ledger and Redis."""

    def __init__(self, services: Services, options: Options, work: run.AtWork) -> None:
        settings = services.settings
        self._ours, self._options, self._work = services, options, work
        self._ledger: Ledger = services.ledger
        self._lang = options.lang or settings.lang
        self.folder = DropFolder(
            (options.folder or settings.require_drop_folder()).absolute(),
            time_zone=settings.time_zone,
            settle_seconds=settings.settle_seconds,
            silent_seconds=2 * settings.lease_seconds,
        )
        self.counts = Counts()
        self.pulse = Pulse(max(settings.watchdog_seconds, 5 * settings.scan_seconds))  # beats with each look
        self.last_look_at: float | None = None  #: epoch seconds; of the last look that succeeded
        self._in_hand: list[InHand] = []
        self._reading: Job | None = None
        self._putting_away: Job | None = None
        self._look_back = LookBack(self.folder)
        self._looking_back: Future[None] | None = None
        self._code = 0
        self._troubles = Troubles(self.folder.root)
        self._not_taken = NotTaken(self._troubles)
        self._untold: list[str] = []  #: what people are still to be told of files that cannot be taken
        self._woken = threading.Event()  #: something has happened in the inbox
        self._nudged = threading.Event()  #: the loop has something to do
        self._left_there = False  #: files that are complete, for which there was no hand free
        self._ticked_at = float("-inf")
        self._looked_at = self._looked_back_at = self._beaten_at = float("-inf")
        self._expected_at = _next_time(settings.expect_file_by, settings.time_zone)

    @property
    def in_hand(self) -> int:
        """How many files are claimed and not yet put away."""
        return len(self._in_hand)

    def run(self) -> int:
        """Work until told to stop or done; return the exit code."""
        interrupts, workers = self._work.interrupts, self._work.workers
        threading.Thread(target=self._wake, name="inbox", daemon=True).start()
        try:
            while not interrupts.count:
                self._beat_if_due()
                self._look_back_if_due()
                self._look_if_due()
                self._tick_if_due()
                self._advance()
                self._ask_for_the_expected()
                if self._options.once and self._nothing_is_left:
                    break
                self._nudged.wait(TICK_SECONDS if self._in_hand or self.folder.settling else IDLE_SECONDS)
                self._nudged.clear()
            if interrupts.count:
                self._ledger.hurry()
            if interrupts.count and workers is not None:
                workers.drain()
            self._let_threads_end()
        finally:
            self.folder.leave()
        return STOPPED if self._in_hand else self._code if self._options.once else 0

    @property
    def _nothing_is_left(self) -> bool:
        return (
            self.last_look_at is not None
            and self._looking_back is None
            and not self._woken.is_set()
            and not self._left_there
            and not self.folder.settling
            and all(one.waits_for_a_person for one in self._in_hand)
        )

    def _let_threads_end(self) -> None:
        """Wait for what is being put away; a reading stops by itself and leaves nothing in the ledger."""
        ends = time.monotonic() + self._ours.settings.total_timeout_seconds + 15
        while self._reading or self._putting_away or self._looking_back:
            self._take_back_jobs()
            if time.monotonic() > ends or self._work.interrupts.count > 1:
                break
            time.sleep(0.02)

    # ---------------------------------------------------------------------------------------------------- looking

    def _beat_if_due(self) -> None:
        if time.monotonic() - self._beaten_at >= BEAT_SECONDS:
            self._beaten_at = time.monotonic()
            with self._troubles.told("sign of life"):
                self.folder.beat()

    def _look_if_due(self) -> None:
        """Look into the folder when something has changed there, when it is time, or when a file may have settled."""
        settings = self._ours.settings
        pause = min(settings.scan_seconds, settings.settle_seconds) if self.folder.settling else settings.scan_seconds
        go_back = self._left_there and self._unread < CLAIMED_AHEAD / 2
        if not self._woken.is_set() and not go_back and time.monotonic() - self._looked_at < pause:
            return
        self._woken.clear()
        self._looked_at = time.monotonic()
        with self._troubles.told("folder"):
            self.folder.make()
            for claim in self.folder.take_over(self._troubles.say):
                log.info("claim of a watcher that ended taken over", claim=claim.id)
                self._in_hand.append(InHand(claim))
            self._take_what_is_complete()
            self.last_look_at = time.time()
            self.pulse.beat()

    @property
    def _unread(self) -> int:
        """How many claims are to be read now; what is held up keeps nobody waiting."""
        return sum(not one.is_read and one.try_at <= time.monotonic() for one in self._in_hand)

    def _take_what_is_complete(self) -> None:
        """Claim complete files, the oldest first, each by itself. Raises OSError if none at all can be taken."""
        self._left_there = False
        complete = self.folder.complete()
        not_taken = dict(self.folder.unseen)
        while complete and self._unread < CLAIMED_AHEAD:
            dropped = complete.pop(0)
            try:
                self._claim(dropped)
            except OSError as error:
                if self.folder.is_shut(error):
                    self._let_people_know(f"inbox ({why_of(error)})")
                    raise
                not_taken[dropped.name] = error
        self._left_there = bool(complete)
        if new := self._not_taken.say(not_taken, untried=[each.name for each in complete]):
            self._code = max(self._code, NEED_A_PERSON)
            self._untold.append(new)
        while self._untold:
            self._let_people_know(self._untold[0])
            self._untold.pop(0)

    def _claim(self, dropped: Dropped) -> None:
        new = self.folder.claim(dropped)
        if new is not None:
            self.counts.taken += 1
            log.info("file taken", claim=new.id)
            self._in_hand.append(InHand(new))

    def _let_people_know(self, what: str) -> None:
        """Tell once a day and folder what cannot be taken, whichever watcher is the first."""
        day = datetime.now(ZoneInfo(self._ours.settings.time_zone))
        once = f"not taken {day:%Y-%m-%d} {self.folder.root} {what}"
        self._ledger.outbox.add(NotificationKind.NOT_TAKEN, once=once, why=what)

    def _look_back_if_due(self) -> None:
        """Look in a thread, now and then, whether a file has changed since it was put away."""
        due_at = self._looked_back_at + LOOK_BACK_SCANS * self._ours.settings.scan_seconds
        if self._looking_back is None and time.monotonic() >= due_at:
            self._looked_back_at = time.monotonic()
            self._looking_back = self._in_thread(self._give_back_what_went_on)

    def _give_back_what_went_on(self) -> None:
        for claim in self._look_back.changed():
            self._give_back_if_changed(claim)

    def _give_back_if_changed(self, claim: Claim) -> None:
        """Let a file whose upload went on be taken again; what was accepted stays in its place. Can be repeated."""
        with self._troubles.told(f"{claim.id}, compared with what was read"):
            if not late_uploads.has_other_content(claim):
                return
            self._ledger.outbox.add(NotificationKind.WENT_ON, once=f"went on {claim.id}", why=claim.name)
            accepted = accept_batch.kept_at(self._ours.files, claim.facts["sha256"])
            if late_uploads.give_back(claim, accepted, self.folder.inbox) is not None:
                log.warning("file changed after it was read, and comes back", claim=claim.id)
            self._woken.set()

    def _wake(self) -> None:
        """Wake the loop whenever something happens in the inbox; where that cannot be watched, the scan remains."""
        while True:
            try:
                for _ in watchfiles.watch(
                    self.folder.inbox, watch_filter=None, recursive=False, raise_interrupt=False, debounce=200, step=50
                ):
                    self._woken.set()
                    self._nudged.set()
            except Exception as error:  # noqa: BLE001 - the door of a thread: the scan goes on without it
                log.debug("file watching unavailable, polling instead", error=type(error).__name__)
            time.sleep(self._ours.settings.scan_seconds)

    def _ask_for_the_expected(self) -> None:
        """Warn once a day if no file arrived by the time that the setting names."""
        if self._expected_at is None or time.time() < self._expected_at:
            return
        settings = self._ours.settings
        by = self._expected_at
        day = datetime.fromtimestamp(by, ZoneInfo(settings.time_zone))
        with self._troubles.told("expected"):
            if not self.folder.arrived_since(by - timedelta(days=1).total_seconds()):
                self._say_that_nothing_arrived(day)
            self._expected_at = _next_time(settings.expect_file_by, settings.time_zone)

    def _say_that_nothing_arrived(self, by: datetime) -> None:
        """Say it once a day and folder, whichever watcher is the first; the ledger has people told."""
        once = f"nothing arrived {by:%Y-%m-%d} {self.folder.root}"
        if self._ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once=once, why=f"{by:%Y-%m-%d %H:%M}"):
            log.warning("nothing arrived", by=f"{by:%Y-%m-%d %H:%M}")

    # ---------------------------------------------------------------------------------------------------- working

    def _tick_if_due(self) -> None:
        """Keep Redis, workers and ledger going, for every batch that runs; whoever brought it.

        Raises OnboardingError if Redis or workers cannot be kept alive: a supervisor must start the whole anew; and
        LedgerReplaced.
        """
        if time.monotonic() - self._ticked_at < TICK_SECONDS:
            return
        self._ticked_at = time.monotonic()
        died = self._work.redis.server is not None and self._work.redis.server.look_after()
        if self._work.workers is not None:
            self._work.workers.look_after()
        with self._troubles.told("ledger and Redis"):
            self._ledger.require_memory()
            if died:
                log.warning("the private Valkey had died and was started again")
                self._ledger.dispatch.repeat()
            reap_and_dispatch(self._ledger, self._ours.settings)

    def _advance(self) -> None:
        """Bring every claim as far as it can go now; one is read and one put away at a time, the oldest first."""
        self._take_back_jobs()
        busy = [job.one for job in (self._reading, self._putting_away) if job is not None]
        idle = [one for one in self._in_hand if one not in busy and one.try_at <= time.monotonic()]
        with self._troubles.told("batches"):
            run = set(self._ledger.batches.running())
            over = [one for one in idle if one.is_read and (self._is_over(one, run) or self._is_left(one, run))]
            if over and self._putting_away is None:
                self._putting_away = self._start(min(over, key=lambda one: one.try_at), self._put_away)
        under_way = sum(one.is_read and not one.waits_for_a_person for one in self._in_hand)
        unread = [one for one in idle if not one.is_read]
        if unread and self._reading is None and under_way < RUNNING_AT_ONCE:
            self._reading = self._start(min(unread, key=lambda one: (one.try_at, one.claim.id)), self._read)

    def _is_over(self, one: InHand, run: set[int]) -> bool:
        """Tell whether a claim can be put away; say once that its batch waits for a person."""
        if one.unusable is not None or one.repeats or one.batch_id is None:
            return True
        state = BatchState.RUNNING if one.batch_id in run else self._ledger.batches.get(one.batch_id).state
        stopped = state in (BatchState.PAUSED, BatchState.HALTED)
        if stopped and not one.waits_for_a_person:
            log.warning("batch waits for a person", batch=one.batch_id, state=str(state))
        one.waits_for_a_person = stopped
        return state in (BatchState.FINISHED, BatchState.CANCELLED)

    def _is_left(self, one: InHand, run: set[int]) -> bool:
        """Tell whether the nightly window has closed on a running batch, and its reports do not say so yet."""
        if one.batch_id not in run or (night := self._night_that_ended()) is None:
            return False
        if self._name_of_night(one.claim, one.batch_id, night) in one.claim.facts.get("outbox", {}):
            return False
        count = self._ledger.queries.count_states(one.batch_id)
        under_way = count.get(RowState.CLAIMED, 0) + count.get(RowState.SENDING, 0)
        return float(one.claim.facts["claimed_at"]) < night and not under_way

    def _night_that_ended(self) -> float | None:
        """Return when the window last closed, unless it is open."""
        now, window = self._ledger.now(), self._ours.settings.window
        return None if window.is_open(now) else window.span(now - timedelta(days=1).total_seconds()).closes_at

    def _name_of_night(self, claim: Claim, batch_id: int, closed_at: float) -> str:
        day = datetime.fromtimestamp(closed_at, ZoneInfo(self._ours.settings.time_zone))
        return f"{name_of_reports(batch_id, claim.name)}-night-{day:%Y-%m-%d}"

    def _start(self, one: InHand, work: Callable[[InHand], None]) -> Job:
        return Job(one, self._in_thread(partial(work, one)))

    def _in_thread(self, work: Callable[[], None]) -> Future[None]:
        future: Future[None] = Future()

        def do() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - the door of a thread: the loop looks at it
                future.set_exception(error)
            else:
                future.set_result(None)
            self._nudged.set()

        threading.Thread(target=do, daemon=True).start()
        return future

    def _take_back_jobs(self) -> None:
        """Look at what the threads have done."""
        if self._reading is not None and self._reading.future.done():
            self._take_back(self._reading)
            self._reading = None
            self._ticked_at = float("-inf")  # its rows may be sent at once
        if self._putting_away is not None and self._putting_away.future.done():
            if self._take_back(self._putting_away) and not self._putting_away.one.claim.is_here:
                self._in_hand.remove(self._putting_away.one)
            self._putting_away = None
        if self._looking_back is not None and self._looking_back.done():
            with self._troubles.told("look back"):
                self._looking_back.result()
            self._looking_back = None

    def _take_back(self, job: Job) -> bool:
        """Tell whether a job went well; what did not is tried again, unless another watcher has the claim now."""
        one, error = job.one, job.future.exception()
        if error is None:
            self._troubles.over(one.claim.id)
            return True
        if isinstance(error, KeyboardInterrupt):
            return False
        if not one.claim.is_here:
            log.warning("claim lost to another watcher", claim=one.claim.id)
            self._in_hand.remove(one)
            return False
        self._troubles.say(one.claim.id, error)
        one.try_at = time.monotonic() + self._ours.settings.scan_seconds
        return False

    # ---------------------------------------------------------------------------------------------------- reading

    def _read(self, one: InHand) -> None:
        """Find out what a claimed file is: a batch of its own, a repeated content, or unusable.

        1. nothing but a regular file is opened
        2. if a batch of its own was made of what was read before, go on with that, whatever the file is by now
        3. write down what is read, and which batches of this content were there before
        4. a batch of this content that came since, or that nobody else is bringing to its end, is its own
        5. another one of this content, finished or under way: it repeats that
        6. else accept it
        """
        claim, services = one.claim, self._ours
        if claim.file.is_symlink() or not claim.file.is_file():
            one.unusable = UnusableFile(
                "unreadable_file",
                "The file cannot be opened: it is a link or a special file, and these are never followed.",
                hint="Drop the file itself.",
                detail="link",
            )
            self._ledger.outbox.add(
                NotificationKind.REJECTED, once=f"rejected {claim.id}", code=one.unusable.code, why=claim.id
            )
            return
        before = claim.facts.get("sha256", "")
        if (
            before
            and accept_batch.kept_at(services.files, before).exists()
            and (own := self._own(claim, self._known(before)))
        ):
            one.batch_id = own.id
            claim.note(batch=own.id)
            return
        version = late_uploads.read_version(claim.file)
        sha256 = version["sha256"]
        if before != sha256:
            found = self._ledger.batches.of_file(sha256)
            claim.note(**version, after=max((batch.id for batch in found), default=0), batch=None)
        known = self._known(sha256)
        own = self._own(claim, known)
        if own is not None:
            accept_batch.keep_file(claim.file, services.files, sha256)  # another watcher may have kept it elsewhere
            one.batch_id = own.id
        elif earlier := next((batch for batch in known if batch.state is not BatchState.CANCELLED), None):
            one.batch_id, one.repeats = earlier.id, True
        else:
            self._accept(one)
        if one.batch_id is not None and not one.repeats:
            claim.note(batch=one.batch_id)

    def _known(self, sha256: str) -> list[Batch]:
        found = self._ledger.batches.of_file(sha256)
        return [each for each in found if each.account == self._ours.account and each.state in _KNOWN]

    def _own(self, claim: Claim, known: list[Batch]) -> Batch | None:
        return next((batch for batch in known if self._is_own(claim, batch)), None)

    def _is_own(self, claim: Claim, batch: Batch) -> bool:
        if claim.facts.get("batch") == batch.id:
            return True
        came_since = batch.id > claim.facts["after"]
        return (came_since or batch.state in batch_lifecycle.GOES_ON) and not self.folder.is_held(batch.id, but=claim)

    def _accept(self, one: InHand) -> None:
        options = self._options
        try:
            accepted = run.accept(
                self._ours,
                one.claim.file,
                self._work.interrupts,
                WATCH,
                mapping=options.mapping,
                canary=options.canary,
                verify_first=options.verify_first,
            )
        except UnusableFile as error:
            if error.code in _LATER:
                raise
            one.unusable = error
            return
        one.batch_id, one.repeats = accepted.batch.id, accepted.goes_on
        one.claim.facts["sha256"] = accepted.batch.sha256  # it may have changed since it was looked at
        log.info("file accepted", claim=one.claim.id, batch=accepted.batch.id)

    # ----------------------------------------------------------------------------------------------- putting away

    def _put_away(self, one: InHand) -> None:
        """Write what is to be told about a claim, and move it to where it ends; may be done again from the start.

        A batch that the night has left unfinished stays where it is: only its reports are handed out.
        """
        if not one.claim.is_here:
            raise FileNotFoundError
        if one.unusable is not None:
            self._reject(one.claim, one.unusable)
        elif one.batch_id is not None and one.repeats:
            self._tell_of_repeat(one.claim, self._ledger.batches.get(one.batch_id))
        elif one.batch_id is not None:
            batch, night = self._ledger.batches.get(one.batch_id), self._night_that_ended()
            if batch.state in (BatchState.FINISHED, BatchState.CANCELLED):
                self._archive(one.claim, batch)
            elif night is not None:
                self.report(one.claim, batch, self._name_of_night(one.claim, batch.id, night))
                log.info("batch goes on the next night", batch=batch.id)

    def _archive(self, claim: Claim, batch: Batch) -> None:
        self.report(claim, batch, name_of_reports(batch.id, claim.name))
        self._put_into(self.folder.archive, str(batch.id), claim)
        self._code = max(self._code, run.exit_code(batch, self._ledger.queries.counts(batch.id)))
        self.counts.archived += 1
        log.info("file archived", claim=claim.id, batch=batch.id)

    def report(self, claim: Claim, batch: Batch, name: str) -> None:
        """Write a batch's reports as it stands now, and put them into the outbox under a name.

        With a name of its own (that of the night) it also tells of a batch that goes on the next night.
        """
        outbox = self.folder.outbox / self.folder.name_in_outbox(claim, name)
        report_builder.write(
            self._ours,
            batch,
            folder=claim.folder / REPORTS,
            lang=self._lang,
            excel_safe=self._options.excel_safe,
            fix=f"cp {shlex.quote(str(outbox / FILES['failures']))} {shlex.quote(str(self.folder.inbox))}/",
        )
        self.folder.hand_out(claim, name)

    def _tell_of_repeat(self, claim: Claim, batch: Batch) -> None:
        need = self._ledger.queries.counts(batch.id).need_a_person
        self._notice(claim, Notice("already_onboarded", claim.name, claim.id, batch=batch, need_a_person=need))
        self.folder.hand_out(claim, f"{name_of_reports(batch.id, claim.name)}-again-{claim.id}")
        self._ledger.outbox.add(
            NotificationKind.REPEATED, once=f"repeated {claim.id}", batch_id=batch.id, why=claim.name
        )
        self._put_into(self.folder.archive, f"{batch.id}-again", claim)
        self.counts.already_onboarded += 1
        log.info("already onboarded", claim=claim.id, batch=batch.id)

    def _reject(self, claim: Claim, error: UnusableFile) -> None:
        sentence, hint = reason_texts.explain_file(error, self._lang)
        self._notice(
            claim,
            Notice("rejected", claim.name, claim.id, code=error.code, line=error.line, sentence=sentence, hint=hint),
        )
        self._put_into(self.folder.rejected, f"{claim.id}-{stem_of(claim.name)}", claim)
        self._code = max(self._code, NEED_A_PERSON)
        self.counts.rejected += 1
        log.warning("file rejected", claim=claim.id, code=error.code)

    def _put_into(self, where: Path, name: str, claim: Claim) -> None:
        """Move a claim to its end, and compare its file with what was read: there nobody else takes it any more."""
        self._give_back_if_changed(Claim(self.folder.put_away(claim, where, name), claim.facts))

    def _notice(self, claim: Claim, notice: Notice) -> None:
        told = replace(notice, sha256=claim.facts.get("sha256", ""))
        write_notice(claim.folder / REPORTS, told, lang=self._lang, time_zone=self._ours.settings.time_zone)


def _next_time(text: str, zone: str) -> float | None:
    return terminal.next_time(text, zone) if text else None

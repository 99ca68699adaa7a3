"""Publishes reports and notices, and moves a claim to where it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from tasks import reason_texts
from tasks.errors import UnusableFile
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, NotificationKind
from tasks.operations import report
from tasks.operations.batch_status import batch_status
from tasks.reports.notice import Notice, write_notice
from tasks.reports.writing import FILES
from tasks.services import Services
from worker import terminal
from worker.inboxes.names import name_of_reports, stem_of
from worker.inboxes.protocol import Claim, Inbox
from worker.watcher.claim_in_progress import ClaimInProgress
from worker.watcher.night_reports import NightReports
from worker.watcher.summary import NEED_A_PERSON, Summary

log = structlog.get_logger("onboard")

_ENDED = (BatchState.FINISHED, BatchState.CANCELLED)
_STOPPED = (BatchState.PAUSED, BatchState.HALTED)


class ClaimCloser:
    """Closes claims whose batch has ended; `on_closed` is called with each claim as it is in its last place."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        summary: Summary,
        *,
        lang: str,
        excel_safe: bool,
        on_closed: Callable[[Claim], None],
    ) -> None:
        self._services, self._inbox, self._summary = services, inbox, summary
        self._ledger: Ledger = services.ledger
        self._night = NightReports(services.ledger, services.settings.window, services.settings.time_zone)
        self._lang, self._excel_safe = lang, excel_safe
        self._on_closed = on_closed

    def is_due(self, progress: ClaimInProgress, states: Mapping[int, BatchState]) -> bool:
        """Return whether a claim that was read can be closed, or has reports of the night to publish.

        `states` are those of the batches of all claims; of a claim whose batch is gone, closing says so. It is noted,
        and logged once, that a batch waits for a person.
        """
        batch_id = progress.batch_id
        if batch_id is None or progress.is_repeat or batch_id not in states:
            return True
        state = states[batch_id]
        if state is BatchState.RUNNING:
            progress.waits_for_a_person = False
            return self._night.are_due(progress.claim, batch_id)
        if state in _STOPPED and not progress.waits_for_a_person:
            log.warning("batch waits for a person", batch=batch_id, state=str(state))
        progress.waits_for_a_person = state in _STOPPED
        return state in _ENDED

    def close(self, progress: ClaimInProgress) -> None:
        """Publish what a claim's file became, and move the claim to where it ends. Can be repeated from the start.

        The claim of a batch that the night has left unfinished stays: only its reports are published. Raises OSError,
        and OnboardingError.
        """
        claim = progress.claim
        if not self._inbox.holds(claim):
            raise FileNotFoundError
        if progress.unusable is not None:
            self._reject(claim, progress.unusable)
        elif progress.batch_id is not None:
            batch = self._ledger.batches.get(progress.batch_id)
            if progress.is_repeat:
                self._archive_repeat(claim, batch)
            elif batch.state in _ENDED:
                self._archive(claim, batch)
            else:
                self._report_night(claim, batch)

    def _archive(self, claim: Claim, batch: Batch) -> None:
        self._publish_reports(claim, batch, name_of_reports(batch.id, claim.name))
        self._on_closed(self._inbox.archive(claim, str(batch.id)))
        self._summary.raise_exit_code(terminal.exit_code(batch_status(self._services, batch.id)))
        self._summary.archived += 1
        log.info("file archived", claim=claim.id, batch=batch.id)

    def _report_night(self, claim: Claim, batch: Batch) -> None:
        closed_at = self._night.window_closed_at()
        if closed_at is not None:
            self._publish_reports(claim, batch, self._night.name(claim, batch.id, closed_at))
            log.info("batch goes on the next night", batch=batch.id)

    def _publish_reports(self, claim: Claim, batch: Batch, name: str) -> None:
        """Write a batch's reports as it is now, and publish them under a name."""
        report.write(
            self._services,
            batch,
            folder=claim.reports,
            lang=self._lang,
            excel_safe=self._excel_safe,
            fix=self._inbox.resubmit_command(claim, name, FILES["failures"]),
        )
        self._inbox.publish(claim, name)

    def _archive_repeat(self, claim: Claim, batch: Batch) -> None:
        need = self._ledger.open_work.of_batch(batch.id).open
        self._write_notice(claim, Notice("already_onboarded", claim.name, claim.id, batch=batch, need_a_person=need))
        self._inbox.publish(claim, f"{name_of_reports(batch.id, claim.name)}-again-{claim.id}")
        self._ledger.outbox.add(
            NotificationKind.REPEATED, once=f"repeated {claim.id}", batch_id=batch.id, why=claim.name
        )
        self._on_closed(self._inbox.archive(claim, f"{batch.id}-again"))
        self._summary.already_onboarded += 1
        log.info("already onboarded", claim=claim.id, batch=batch.id)

    def _reject(self, claim: Claim, error: UnusableFile) -> None:
        sentence, hint = reason_texts.explain_file(error, self._lang)
        self._write_notice(
            claim,
            Notice("rejected", claim.name, claim.id, code=error.code, line=error.line, sentence=sentence, hint=hint),
        )
        self._on_closed(self._inbox.reject(claim, f"{claim.id}-{stem_of(claim.name)}"))
        self._summary.raise_exit_code(NEED_A_PERSON)
        self._summary.rejected += 1
        log.warning("file rejected", claim=claim.id, code=error.code)

    def _write_notice(self, claim: Claim, notice: Notice) -> None:
        notice = replace(notice, sha256=claim.facts.get("sha256", ""))
        write_notice(LocalFolder(claim.reports), notice, lang=self._lang, time_zone=self._services.settings.time_zone)

"""Finds out what a claimed file is: a batch of its own, a content that is known, or unusable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from tasks.errors import UnusableFile
from tasks.files.file_store import FileStore, accepted_name
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, NotificationKind
from tasks.operations import accept_batch, batch_lifecycle
from tasks.operations.accept_batch import Accepted
from worker.inboxes.protocol import Claim, Inbox
from worker.watcher.claim_in_progress import ClaimInProgress

log = structlog.get_logger("onboard")

#: Codes of an UnusableFile that may be usable later.
_RETRIED = ("unreadable_file", "changed_while_reading")
#: States of a batch that has this content for good.
_KNOWN = (*batch_lifecycle.GOES_ON, BatchState.FINISHED, BatchState.CANCELLED)


class ClaimReader:
    """Reads claimed files; `accept` makes a batch of a file."""

    def __init__(
        self, inbox: Inbox, ledger: Ledger, accepted_files: FileStore, accept: Callable[[Path], Accepted]
    ) -> None:
        self._inbox, self._ledger = inbox, ledger
        self._accepted_files = accepted_files
        self._accept = accept

    def read(self, progress: ClaimInProgress) -> None:
        """Find out what a claimed file is, and accept it if it is new. Can be repeated from the start.

        1. open nothing but a regular file
        2. if a batch of its own was made of what was read before, continue with that, even if the file has changed
        3. note what is read, and which batches had this content before
        4. a batch of this content is its own if it was made since, or if it is unfinished and no other claim has it
        5. any other batch of this content, finished or running: the file repeats that
        6. else accept it

        Raises OSError, OnboardingError, and KeyboardInterrupt when accepting is interrupted.
        """
        claim = progress.claim
        if claim.file.is_symlink() or not claim.file.is_file():
            self._reject_special_file(progress)
        elif own := self._batch_of_earlier_reading(claim):
            progress.batch_id = own.id
        else:
            self._read_content(progress, self._note_version(claim))
        if progress.batch_id is not None and not progress.is_repeat:
            self._inbox.note(claim, batch=progress.batch_id)

    def _reject_special_file(self, progress: ClaimInProgress) -> None:
        progress.unusable = UnusableFile(
            "unreadable_file",
            "The file cannot be opened: it is a link or a special file, and these are never followed.",
            hint="Drop the file itself.",
            detail="link",
        )
        claim_id, code = progress.claim.id, progress.unusable.code
        self._ledger.outbox.add(NotificationKind.REJECTED, once=f"rejected {claim_id}", code=code, why=claim_id)

    def _batch_of_earlier_reading(self, claim: Claim) -> Batch | None:
        """Return the claim's own batch of what was read before its watcher ended, if that was accepted."""
        sha256 = claim.facts.get("sha256", "")
        if not sha256 or self._accepted_files.get(accepted_name(sha256)) is None:
            return None
        return self._own(claim, self._known(sha256))

    def _note_version(self, claim: Claim) -> str:
        """Note what the file is now, and the last batch that had this content before; return its checksum."""
        version = self._inbox.read_version(claim)
        sha256 = str(version["sha256"])
        if claim.facts.get("sha256", "") != sha256:
            last = max((batch.id for batch in self._ledger.batches.of_file(sha256)), default=0)
            self._inbox.note(claim, **version, after=last, batch=None)
        return sha256

    def _read_content(self, progress: ClaimInProgress, sha256: str) -> None:
        known = self._known(sha256)
        if own := self._own(progress.claim, known):
            # another watcher may have kept it on another machine
            accept_batch.keep_file(progress.claim.file, self._accepted_files, sha256)
            progress.batch_id = own.id
        elif earlier := next((batch for batch in known if batch.state is not BatchState.CANCELLED), None):
            progress.batch_id, progress.is_repeat = earlier.id, True
        else:
            self._accept_file(progress)

    def _known(self, sha256: str) -> list[Batch]:
        """Return the batches of this account that have this content for good."""
        batches = self._ledger.batches.of_file(sha256)
        return [batch for batch in batches if batch.account == self._ledger.account and batch.state in _KNOWN]

    def _own(self, claim: Claim, known: list[Batch]) -> Batch | None:
        return next((batch for batch in known if self._is_own(claim, batch)), None)

    def _is_own(self, claim: Claim, batch: Batch) -> bool:
        if claim.facts.get("batch") == batch.id:
            return True
        may_be_own = batch.id > claim.facts["after"] or batch.state in batch_lifecycle.GOES_ON
        return may_be_own and not self._inbox.others_claim(batch.id, claim)

    def _accept_file(self, progress: ClaimInProgress) -> None:
        try:
            accepted = self._accept(progress.claim.file)
        except UnusableFile as error:
            if error.code in _RETRIED:
                raise
            progress.unusable = error
            return
        progress.batch_id, progress.is_repeat = accepted.batch.id, accepted.goes_on
        progress.claim.facts["sha256"] = accepted.batch.sha256  # it may have changed since its version was noted
        log.info("file accepted", claim=progress.claim.id, batch=accepted.batch.id)

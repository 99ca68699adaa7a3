"""A claim and how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tasks.errors import UnusableFile
from worker.inboxes.protocol import Claim


@dataclass(eq=False)
class ClaimInProgress:
    """A claim that is not closed: to be read, then running as a batch, then to be closed."""

    claim: Claim
    batch_id: int | None = None
    unusable: UnusableFile | None = None  #: why the file was rejected
    is_repeat: bool = False  #: another file with this content became `batch_id` before
    waits_for_a_person: bool = False
    retry_at: float = 0.0  #: by the monotonic clock: no step is tried before

    @property
    def is_read(self) -> bool:
        """Whether it is known what the file is."""
        return self.batch_id is not None or self.unusable is not None

    @property
    def is_due(self) -> bool:
        """Whether its next step may be tried now."""
        return self.retry_at <= time.monotonic()

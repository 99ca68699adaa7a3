"""`onboard retry`: what may pass now is tried again."""

from __future__ import annotations

import time
from typing import Any

from tasks.operations import report
from tasks.operations.retry import require_retryable
from tasks.operations.retry import retry as retry_batch
from tasks.services import Services
from worker.batch_wait import Ending
from worker.command_runtime import at_work, reading_until_interrupted
from worker.commands.sending import ReportOptions, progress_of, send_to_the_end, show_result
from worker.operator_identity import who
from worker.screen import Screen


def retry(
    services: Services,
    batch_id: int,
    screen: Screen,
    reports: ReportOptions,
    *,
    workers: int | None,
    no_workers: bool,
) -> tuple[int, dict[str, Any]]:
    """Try again what may pass now, in the batch (look-ups) and in a child batch (refused and unsent rows)."""
    services.settings.require_key()
    require_retryable(services, batch_id)
    started = time.time()
    with at_work(services, screen, "retry", workers=workers, no_workers=no_workers) as work:
        with work.interrupts.counted(), progress_of(services, screen) as progress:
            retried = retry_batch(
                services,
                batch_id,
                who=who(),
                planned=lambda sent_again, looked_up: _say_plan(screen, sent_again, looked_up),
                progress=reading_until_interrupted(work.interrupts, progress.reading),
            )
            batches = retried.batches(batch_id)
            ending = send_to_the_end(services, batches, screen, work, progress)
        if ending is Ending.OVER and len(batches) > 1:
            report.write(services, services.ledger.batches.get(batch_id), lang=reports.lang)
        return show_result(services, reports, screen, batches[-1], started, ending)


def _say_plan(screen: Screen, sent_again: int, looked_up: int) -> None:
    parts = [screen.texts("rows_sent_again", count=sent_again), screen.texts("rows_looked_up", count=looked_up)]
    screen.console.print(screen.texts("list_between").join(parts))

"""`onboard beat`: the clock of a fleet, Celery's own; it sends messages, notifies people, and does no other work."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import SettingsError
from tasks.settings import Settings


def beat(settings: Settings) -> int:
    """Send the scheduled messages until stopped. Raises SettingsError without a fleet, or beside another beat."""
    from tasks import celery_tasks
    from worker import notifier
    from worker.celery_app import Clock, app

    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: beat sends its messages to a fleet's workers through Redis")
    with _only_one(settings.home / "beat.lock"):
        notifier.start(celery_tasks.built_services(), digests=True)  # of a fleet without any worker nobody else tells
        app.Beat(scheduler=Clock, schedule=str(settings.home / "beat-schedule"), loglevel="WARNING", quiet=True).run()
    return 0


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold this folder's lock: two beats would write one schedule file. Two in different folders do no harm."""
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError("another `onboard beat` runs in {folder}: one is enough", folder=lock.parent) from None
        yield

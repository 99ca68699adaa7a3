"""One worker process: Celery's consumer with our sending loop, ending with its owner."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time

import structlog

from tasks import celery_tasks
from worker.run import PARENT

log = structlog.get_logger("onboard")

#: How long one thread may keep the others waiting. Python's 5 ms, times the threads that send, would make rows late.
SWITCH_SECONDS = 0.0005
#: Exit code of a worker that its watchdog has ended.
STUCK = 75


def work(name: str) -> int:
    """Work until told to stop; return the exit code."""
    from worker.celery_app import SLICE_THREADS, app

    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is loaded by now stays; looking through it again and again would make rows late
    parent = os.environ.get(PARENT)
    if parent is not None:
        threading.Thread(target=_end_with, args=(int(parent),), name="parent", daemon=True).start()
    threading.Thread(target=_watch, name="watchdog", daemon=True).start()
    app.worker_main(
        [
            "worker",
            *("--hostname", f"onboard-{name}@%h", "--pool", "threads", "--concurrency", str(SLICE_THREADS)),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )
    return 0


def _end_with(parent: int) -> None:
    """End this process, orderly, when the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    log.warning("the process that started this worker is gone, so it ends", parent=parent)
    ours = celery_tasks.resources()
    ours.waves.stop(ours.settings.total_timeout_seconds + 5)
    os._exit(0)


def _watch() -> None:
    """End this process, as failed, when its loop has, or when its rows are open and none has moved for too long."""
    ours = celery_tasks.resources()
    limit = ours.settings.watchdog_seconds
    while True:
        time.sleep(min(1.0, limit / 4))
        if ours.waves.failed:
            log.error("the sending loop has failed, so this worker ends to be started again")
            os._exit(STUCK)
        stuck = ours.waves.stuck_seconds
        if stuck > limit:
            log.error("no row has moved, so this worker ends to be started again", seconds=round(stuck))
            os._exit(STUCK)

"""`onboard worker`: one worker process, with Celery's consumer and the send loop."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time
from functools import partial
from typing import NoReturn

import structlog

from tasks import celery_tasks
from tasks.errors import LedgerError, LedgerReplaced
from tasks.gc_tuning import collect_from_now_on
from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY, is_out_of_memory
from worker import logs
from worker.health_server import HealthServer, Pulse, serve
from worker.interrupts import NOTICE_SECONDS
from worker.worker_pool import PARENT, RUNNER

log = structlog.get_logger("onboard")

#: How long one thread may delay the others. Python's 5 ms, times the threads that send, would make rows late.
SWITCH_SECONDS = 0.0005
#: Exit code of a worker that its watchdog ended, and of one whose ledger was replaced.
STUCK, REPLACED = 75, 2
#: How long a starting worker waits for a ledger that cannot be used.
STARTING_SECONDS = 60.0
#: How long a worker whose consumer has failed waits before it restarts.
RESTART_SECONDS = 1.0


def work(name: str) -> int:
    """Work until SIGTERM or SIGINT; return the exit code. Raises OnboardingError if it cannot start."""
    from worker.celery_app import REAP_SECONDS, SLICE_THREADS, app, hold_name, told_to_end, use_queue_of

    collect_from_now_on()
    sys.setswitchinterval(SWITCH_SECONDS)
    services = celery_tasks.built_services()
    settings = services.settings
    logs.configure(settings.log_level)  # Celery does it as well, but later
    parent, runner = os.environ.get(PARENT), os.environ.get(RUNNER)
    if runner:
        services.runner = int(runner)
        use_queue_of(services.runner)
    node = f"onboard-{name}@{socket.gethostname()}"
    hold_name(node)
    if parent is not None:  # `onboard run` reaps for its own workers
        threading.Thread(target=_end_with, args=(int(parent),), name="parent", daemon=True).start()
    else:
        reaped = Pulse(settings.watchdog_seconds)
        threading.Thread(target=_reap, args=(REAP_SECONDS, reaped), name="reaper", daemon=True).start()
        from worker import notifier

        notifier.start(services, digests=True)
    _start_send_loop()
    threading.Thread(target=_watch, name="watchdog", daemon=True).start()
    threading.Thread(target=_ensure_end, args=(told_to_end,), name="end", daemon=True).start()
    if parent is None:  # workers of one command would fight for one port
        pages = partial(HealthServer, services, trouble=_failure, pulses={"sweep": reaped})
        serve(pages, settings.metrics_host, settings.metrics_port)
    consumer = app.Worker(  # not worker_main: Celery's command line takes a fifth of a worker's start to load
        hostname=node,
        pool_cls="threads",
        concurrency=SLICE_THREADS,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    with contextlib.suppress(SystemExit):
        consumer.start()
    if not told_to_end.is_set():
        _restart(name)
    return 0


def _start_send_loop() -> None:
    """Start the send loop; wait up to STARTING_SECONDS for a ledger that is out of reach.

    Raises LedgerReplaced at once, and LedgerError after the wait.
    """
    ends = time.monotonic() + STARTING_SECONDS
    while True:
        try:
            celery_tasks.built_services().ledger.require_memory()
            celery_tasks.built_services().send_loop  # noqa: B018 - building it starts it
        except LedgerReplaced:
            raise
        except LedgerError as error:
            if time.monotonic() > ends:
                raise
            log.warning("waiting for the ledger", why=str(error))
            time.sleep(2.0)
        else:
            return


def _restart(name: str) -> NoReturn:
    """Replace this process by a new worker with the same process number, so that no supervisor needs to act.

    kombu does not survive every way in which Redis can fail: its consumer then ends.
    """
    log.warning("the consumer failed, so this worker starts anew")
    time.sleep(RESTART_SECONDS)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker.cli", "worker", "--name", name])  # noqa: S606 - our own program


def _end_with(parent: int) -> None:
    """End this process in an orderly way when the process that started it has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    log.warning("the process that started this worker is gone, so it ends", parent=parent)
    _end(0)


def _end(code: int) -> NoReturn:
    """End this process when its last answers are recorded; the reaper recovers rows whose answers could not be."""
    try:
        services = celery_tasks.built_services()
        services.send_loop.stop(services.settings.total_timeout_seconds + 5)
    finally:
        os._exit(code)


def _ensure_end(stop: threading.Event) -> None:
    """End this process soon after its last answer once `stop` is set, even if ledger, Redis or Celery hang."""
    stop.wait()
    send_loop = celery_tasks.built_services().send_loop
    last, moved_at = time.monotonic(), send_loop.moved_at
    while time.monotonic() - last < NOTICE_SECONDS:
        time.sleep(0.1)
        if send_loop.in_flight or send_loop.moved_at != moved_at:
            last, moved_at = time.monotonic(), send_loop.moved_at
    log.warning("asked to end, but something does not answer, so this worker ends at once; nothing is lost")
    os._exit(0)


def _reap(seconds: float, pulse: Pulse) -> None:
    """Reap and dispatch in a loop, for the whole fleet.

    Every worker does, so no single process has to be alive; the ledger gives out each row and slice once.
    """
    failure = ""
    while True:
        time.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - so that workers do not reap at the same time
        pulse.beat()
        try:
            celery_tasks.reap()
            failure = ""
        except Exception as error:  # noqa: BLE001 - the door of a thread: the next try may succeed
            if type(error).__name__ != failure:
                failure = type(error).__name__
                log.warning("reaping failed, trying again", error=failure)


def _failure() -> str:
    """Return why this process should be restarted, or ""."""
    services = celery_tasks.built_services()
    if services.send_loop.failed:
        return "the sending loop has failed"
    return "no row has moved" if services.send_loop.stuck_seconds > services.settings.watchdog_seconds else ""


def _watch() -> None:
    """End this process when its send loop has failed, or when rows are open and none has changed for too long.

    End it also when its ledger was replaced.
    """
    services = celery_tasks.built_services()
    limit = services.settings.watchdog_seconds
    while True:
        time.sleep(min(1.0, limit / 4))
        failure = services.send_loop.failure
        if celery_tasks.out_of_memory.is_set() or (failure is not None and is_out_of_memory(failure)):
            log.error("out of memory, so this worker ends to be started again", why=NO_MEMORY)
            _end(OUT_OF_MEMORY)
        if services.send_loop.failed:
            log.error("the sending loop has failed, so this worker ends to be started again")
            os._exit(STUCK)
        stuck = services.send_loop.stuck_seconds
        if stuck > limit:
            log.error("no row has moved, so this worker ends to be started again", seconds=round(stuck))
            os._exit(STUCK)
        try:
            services.ledger.require_memory()
        except LedgerReplaced as error:
            log.error("the ledger was replaced, so this worker ends", why=str(error))  # noqa: TRY400 - it says it all
            _end(REPLACED)
        except LedgerError:  # out of reach: the send loop logs it
            continue

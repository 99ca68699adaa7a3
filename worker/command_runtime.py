"""What a command works with for its length: signals, a Redis, and worker processes of its own or those of others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tasks.errors import SettingsError
from tasks.ledger import WATCH
from tasks.operations.installation_checks import ledger_place
from tasks.operations.status import is_fleet_at_work
from tasks.services import Services
from worker import terminal
from worker.embedded_redis import EmbeddedRedis
from worker.interrupts import Interrupts
from worker.screen import Screen
from worker.worker_pool import HomeLock, WorkerPool, Workers


class Redis(NamedTuple):
    """The Redis that a command works with."""

    server: EmbeddedRedis | None = None  #: its own; None: the fleet's, or the watcher's
    watcher: HomeLock | None = None  #: held by the watcher that is at work here, whose Redis it is


class AtWork(NamedTuple):
    """What works for a command while it runs."""

    interrupts: Interrupts
    workers: Workers | None  #: None: the workers of a fleet, or of a watcher, send
    runner: WorkerPool | None  #: None: likewise
    redis: Redis

    @property
    def left(self) -> bool:
        """Whether the watcher that was to send is gone."""
        return self.redis.watcher is not None and self.redis.watcher.watcher_is_gone


@contextlib.contextmanager
def with_redis(services: Services, screen: Screen, command: str) -> Iterator[Redis]:
    """Have a Redis for the length of a command: the fleet's, or a private one (one command a folder at a time).

    A watcher that is at work in the folder is not waited for, but by another watcher: its Redis serves.
    """
    if services.settings.redis_url is not None:
        yield Redis()
        return
    lock = HomeLock(services.settings.home, command, _works_for(services))
    with lock.held(partial(_print_wait, screen)):
        if lock.watcher_redis is not None:
            services.use_redis(lock.watcher_redis)
            os.environ["REDIS_URL"] = lock.watcher_redis
            yield Redis(watcher=lock)
            return
        with EmbeddedRedis(services.settings.home) as server:
            os.environ["REDIS_URL"] = server.url
            services.use_redis(server.url)
            lock.say_where_redis_is(server.url)
            yield Redis(server)


def _works_for(services: Services) -> str:
    return f"{services.account.key} {ledger_place(services)}"


def require_sender(services: Services, command: str) -> None:
    """Require somebody who sends what this command only accepts: a worker of the fleet, or a watcher in this folder.

    Raises SettingsError; without a fleet and a watcher the ledger is not touched.
    """
    settings = services.settings
    if settings.redis_url is None:
        redis_url = HomeLock(settings.home, command, _works_for(services)).find_watcher()
        if not redis_url:
            raise SettingsError(
                "--no-wait needs somebody who sends: set REDIS_URL to the fleet's Redis, or start `onboard watch` here"
            )
        services.use_redis(redis_url)
    elif not is_fleet_at_work(services):
        raise SettingsError("--no-wait needs somebody who sends, and no worker is at work: start `onboard worker`")


def _print_wait(screen: Screen, pid: str, command: str) -> None:
    screen.say("other_command_works", command=command, pid=pid)


@contextlib.contextmanager
def at_work(
    services: Services,
    screen: Screen,
    command: str,
    *,
    workers: int | None,
    no_workers: bool,
    before: Callable[[], None] = lambda: None,
) -> Iterator[AtWork]:
    """Have workers for the length of a command, and a Redis: the fleet's, or a private one (one command a folder).

    The workers start at once: while they load what they need, the file is read. Those of a watcher send what belongs to
    the fleet and to drop folders, those of any other command what it adds and takes. Beside a watcher in the same
    folder a command has none: that watcher's send. `before` is called before anything starts, and may raise.
    """
    settings = services.settings
    if no_workers and settings.redis_url is None:
        raise SettingsError("--no-workers needs a fleet: set REDIS_URL to the Redis that its workers use")
    terminal.print_place(screen, services.account, services.ledger.place)
    services.ledger.require_memory()
    before()
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        redis = stack.enter_context(with_redis(services, screen, command))
        if redis.watcher is not None:
            screen.say("watcher_sends")
        services.ledger.version()  # its tables are there before workers look for them
        runner, processes = None, None
        if not no_workers and redis.watcher is None:
            runner = _start_runner(services, command, redis, stack)
            count = workers or settings.workers or os.cpu_count() or 1
            processes = Workers(settings.home, services.redis_url, count, services.ledger.scope.runner)
        _use_celery_here()
        try:
            yield AtWork(interrupts, processes, runner, redis)
        finally:
            interrupts.raises = False
            if processes is not None:
                processes.stop(interrupts, settings.total_timeout_seconds + 15)


def _start_runner(services: Services, command: str, redis: Redis, stack: contextlib.ExitStack) -> WorkerPool | None:
    """Register the command whose batches its workers send; a watcher's send those of the fleet (None)."""
    if command == WATCH:
        if redis.server is not None:
            services.ledger.dispatch.repeat()
        return None
    from worker import celery_app

    runner = WorkerPool(services.ledger, services.settings.lease_seconds)
    stack.callback(runner.end)
    celery_app.use_queue_of(runner.number)
    return runner


def _use_celery_here() -> None:
    """Let the tasks of this process go to the Redis that it works with now."""
    from worker import celery_app

    celery_app.app.set_current()


def reading_until_interrupted(
    interrupts: Interrupts, show: Callable[[int], None] = lambda _records: None
) -> Callable[[int], None]:
    """Return what is called while a file is read: it ends the reading at Ctrl-C, of which nothing stays in the ledger.

    `show` gets the records that were read so far.
    """

    def progress(records: int) -> None:
        if interrupts.count:
            raise KeyboardInterrupt
        show(records)

    return progress

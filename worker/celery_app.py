"""Broker, queue, schedule and time limits of the workers.

Sweeping is not scheduled: every worker of a fleet does it by itself (`worker_process`), in step with nobody.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.beat import PersistentScheduler
from celery.signals import celeryd_init, setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from kombu.exceptions import OperationalError

from tasks import celery_tasks
from tasks.celery_tasks import QUEUE, SCHEDULE
from tasks.errors import SettingsError
from tasks.models import Account
from tasks.settings import load_settings
from worker import logs
from worker.failures import UNUSABLE
from worker.worker_name import WorkerName

#: The broker cannot be reached; no OSError, whatever raised it first.
BrokerUnreachable = OperationalError
#: Slices of this process that may be open at once; the send loop mixes them, so a few keep it fed.
SLICE_THREADS = 4
#: A command's own queue is dropped after so long without anybody at it.
QUEUE_EXPIRES_SECONDS = 3600
#: A Redis that says nothing for so long is left, and connected to anew.
SOCKET_SECONDS = 10
#: How long an idle worker of one command waits in Redis for a message, in seconds; it notices its end no sooner. Where
#: Redis is reached by a socket file, as a command's own is: over a network it stays kombu's one second.
POLL_SECONDS = 0.2
#: Seconds between two sweeps of a fleet's worker.
REAP_SECONDS = 2.0
#: The name that this worker holds.
_names: list[WorkerName] = []
#: A signal has asked this worker to end; without one, its end is a failure.
told_to_end = threading.Event()


class Clock(PersistentScheduler):
    """Celery's scheduler; whenever it writes its schedule down, every three minutes or so, it gives a sign of life.

    The file of the schedule proves nothing: some databases write it at the end only.
    """

    def sync(self) -> None:
        """Write the schedule down."""
        super().sync()
        Path(f"{self.schedule_filename}.written").touch()


def broker_url(redis_url: str) -> str:
    """Return REDIS_URL as Celery's transport spells it: socket file and database have names of their own there."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


def make_app(redis_url: str, account: Account, total_timeout_seconds: float) -> Celery:
    """Return the Celery app with the settings that were checked against lost and doubled messages.

    Fleets of different accounts may share a Redis: the names of everything there begin with the account.
    """
    app = Celery("onboard", broker=broker_url(redis_url), include=["tasks.celery_tasks"])
    app.conf.update(
        broker_read_url=broker_url(redis_url),  # else CELERY_BROKER_URL, of some other program, would be used
        broker_write_url=broker_url(redis_url),
        task_default_queue=QUEUE,
        task_queues={QUEUE: {}},
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        worker_consumer="worker.received_messages:CheckedConsumer",
        worker_pool="threads",
        worker_concurrency=SLICE_THREADS,
        # no more messages than threads, counted by what they are working on: kombu's own count keeps a message for ever
        # whose acknowledgement met a lost connection, and after as many as there are threads takes none any more
        worker_prefetch_multiplier=0,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,  # nobody uses it, and whoever reaches Redis could end workers by it
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=total_timeout_seconds + 10,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=SLICE_THREADS + 4,
        broker_transport_options={
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 5,
            "max_connections": SLICE_THREADS + 20,
            "socket_timeout": SOCKET_SECONDS,
            **({} if redis_url.startswith("unix") else {"socket_connect_timeout": 5, "socket_keepalive": True}),
            "health_check_interval": SOCKET_SECONDS,  # and so long a consumer waits for an answer that is overdue
            "global_keyprefix": f"onboard:{account.key}:",
        },
        beat_schedule={
            name: {"task": name, "schedule": seconds, "options": {"queue": QUEUE, "expires": seconds}}
            for name, seconds in SCHEDULE.items()
        },
        timezone="UTC",
    )
    return app


_settings = load_settings()
_account = Account(_settings.live, _settings.address)
app = make_app(
    _settings.redis_url or "redis://localhost:6379/0",
    _account,
    _settings.total_timeout_seconds,
)
app.set_default()


def use_queue_of(runner: int | None) -> None:
    """Send to, and take from, the queue of one command; None: the fleet's. Before the app is used for the first time.

    Redis drops the queue of a command that is gone.
    """
    if runner is not None:
        queue = f"{QUEUE}.{runner}"
        expires = {"queue_arguments": {"x-expires": QUEUE_EXPIRES_SECONDS * 1000}}
        app.conf.update(task_default_queue=queue, task_queues={queue: expires})
        if _settings.redis_url is not None and _settings.redis_url.startswith("unix://"):
            app.conf.broker_transport_options["polling_interval"] = POLL_SECONDS


def hold_name(name: str) -> None:
    """Hold a worker's name, as Celery has it, as long as this process lives; those of one command's own need not.

    Raises SettingsError if another worker of the fleet has it.
    """
    if not _names and app.conf.task_default_queue == QUEUE and _settings.redis_url is not None:
        held = WorkerName(_settings.redis_url, _account.key, name)
        held.take()
        held.keep()
        _names.append(held)


@celeryd_init.connect
def _require_own_name(sender: str, **_: Any) -> None:
    """End a worker that Celery's command line has started with the name of another."""
    try:
        hold_name(sender)
    except SettingsError as error:
        sys.stderr.write(f"onboard: {error}\n")
        raise SystemExit(UNUSABLE) from error


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logs.configure(_settings.log_level)


@worker_ready.connect
def _ready(**_: Any) -> None:
    structlog.get_logger("onboard").info(
        "worker ready", pid=os.getpid(), account=str(_account), ledger=celery_tasks.built_services().ledger.place
    )


@worker_shutting_down.connect
def _stop_sending(**_: Any) -> None:
    """Give back what was not sent; Celery waits for the slices, which end as soon as their last answer is written."""
    celery_tasks.built_services().send_loop.drain()
    celery_tasks.built_services().ledger.hurry()
    told_to_end.set()


@worker_shutdown.connect
def _stop_loop(**_: Any) -> None:
    services = celery_tasks.built_services()
    services.send_loop.stop(services.settings.total_timeout_seconds)
    for name in _names:
        name.release()

"""The runtime: doors and clock. `worker.celery_app.app` is the Celery app that every door binds the tasks to.

=====================  ====================================================================
cli                    the commands people type
commands               what each command parses, and shows
batch_wait             waits for batches: feeds workers, shows progress, pauses at Ctrl-C
command_runtime        a Redis and workers for the length of a command
progress               how far a run has come, live on a terminal
operator_identity      who gives a command, for the ledger's history
watcher                `onboard watch`: brings dropped files to their end
console                `onboard console`: the review pages
inboxes                where dropped files arrive: the drop folder, behind a protocol for other stores
failures               what is said about whatever was raised
worker_pool            the workers of a run: started, watched, stopped; the lock of a home folder
embedded_redis         a Valkey of our own for the life of one command
worker_process         `onboard worker`: Celery's consumer with our sending loop
worker_name            the name of a worker, which no other of its fleet has
beat                   `onboard beat`: the clock of a fleet
celery_app             broker, queue, schedule, time limits
received_messages      messages that this program does not send are dropped before Celery sees them
notifier               delivers notifications, once through each channel
notification_channels  the channels: Apprise and a command
health_server          `/metrics`, `/healthz` and `/readyz` of a long-lived process
metrics                what Prometheus reads
terminal               tables, verdicts and times as a person sees them
questions              asks the person at the terminal before what cannot be taken back
screen                 where a command prints, and in which language
wrapping               Japanese text that breaks between its characters
interrupts             Ctrl-C and SIGTERM, obeyed whatever hangs
streams                output that nobody reads any more ends no command
logs                   one event a line, ids always, personal data and keys never
=====================  ====================================================================
"""

import sys
from typing import Any


def __getattr__(name: str) -> Any:
    """Return the Celery app, for `celery -A worker`; it reads the settings when it is first asked for."""
    if name == "app":
        try:
            from worker.celery_app import app
        except Exception as error:
            from worker.failures import failure_of, line_of_end, spoken_language

            message, _, exit_code = failure_of(error)
            lang = spoken_language()
            sys.stderr.write(f"{line_of_end(message.in_language(lang), lang)}\n")
            raise SystemExit(exit_code) from error
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Starts a watcher for `onboard watch`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks import accept
from tasks.accept import load_mapping
from tasks.ledger import WATCH
from tasks.operations.sendable_methods import sendable_methods
from tasks.services import Services
from tasks.settings import Settings
from worker.command_runtime import at_work
from worker.health_server import HealthServer, serve
from worker.inboxes.local_folder import LocalFolder
from worker.screen import Screen
from worker.watcher.watcher import Options, Watcher


def watch(services: Services, options: Options, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Onboard dropped files until interrupted, or (`once`) until all that is there has come to its end.

    Returns the exit code and what `--json` prints.
    """
    services.settings.require_key()
    if options.mapping is not None:
        load_mapping(options.mapping)  # a malformed one is reported now, and not with the first file
    with at_work(services, screen, WATCH, workers=options.workers, no_workers=options.no_workers) as work:
        sendable_methods(services)  # so is a key that elepay does not accept
        accept.load()
        inbox = open_inbox(services.settings, options.folder)
        watcher = Watcher(services, options, inbox, work)
        inbox.prepare()
        pages = partial(HealthServer, services, pulses={"watcher": watcher.pulse})
        serve(pages, services.settings.metrics_host, services.settings.metrics_port)
        screen.say("watching", folder=inbox.incoming)
        with work.interrupts.counted():
            code = watcher.run()
    return code, {
        "verdict": "watch",
        "folder": inbox.location,
        **watcher.summary.counts(),
        "unfinished": len(watcher.claims),
    }


def open_inbox(settings: Settings, folder: Path | None) -> LocalFolder:
    """Return the inbox that the settings name, or the drop folder `folder`."""
    return LocalFolder(
        (folder or settings.require_drop_folder()).absolute(),
        time_zone=settings.time_zone,
        settle_seconds=settings.settle_seconds,
        silent_seconds=2 * settings.lease_seconds,
    )

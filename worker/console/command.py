"""Serves the pages for `onboard console`."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import uvicorn

from tasks.error_texts import system_reason
from tasks.errors import SettingsError
from tasks.services import Services
from worker.console.app import build_app
from worker.interrupts import Interrupts
from worker.screen import Screen

#: How long an answer that is under way may take when the console is stopped.
_GRACE_SECONDS = 3
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """What was given to `onboard console`."""

    host: str
    port: int


def console(services: Services, options: Options, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Serve the pages until interrupted. Returns the exit code and what `--json` prints."""
    listening = _listen(options)
    port = listening.getsockname()[1]
    address = f"http://{options.host}:{port}/"
    server = uvicorn.Server(_config(services))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="console", daemon=True)
    with Interrupts() as interrupts, interrupts.counted():
        serving.start()
        screen.say("console_serves", address=address)
        while serving.is_alive() and not interrupts.count:
            time.sleep(_LOOK_SECONDS)
        server.should_exit = True
        serving.join(2 * _GRACE_SECONDS)
    return 0, {"verdict": "console", "address": address}


def _listen(options: Options) -> socket.socket:
    """Return a socket that listens. Raises SettingsError if it cannot."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=128)
    except OSError as error:
        raise SettingsError(
            "the console cannot be served at {host}, port {port}: {why}",
            host=options.host,
            port=options.port,
            why=system_reason(error),
        ) from error


def _config(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(services),
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

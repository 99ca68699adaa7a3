"""Serves the pages for `onboard console`."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tasks.error_texts import system_reason
from tasks.errors import SettingsError
from tasks.services import Services
from worker.console.app import build_app
from worker.console.safety.composition import is_read_only, require_safe_start
from worker.console.safety.request_heads import BoundedHeads
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
    require_safe_start(services, options.host)
    socket_file = services.settings.console_socket
    listening = _listen_on_file(socket_file) if socket_file else _listen(options)
    address = services.settings.console_url or _address(options, listening)
    server = uvicorn.Server(_config(services))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="console", daemon=True)
    with Interrupts() as interrupts, interrupts.counted():
        serving.start()
        screen.say("console_serves", address=address)
        if is_read_only(services):
            screen.say("console_is_read_only", style="yellow")
        while serving.is_alive() and not interrupts.count:
            time.sleep(_LOOK_SECONDS)
        server.should_exit = True
        serving.join(2 * _GRACE_SECONDS)
    return 0, {"verdict": "console", "address": address}


def _address(options: Options, listening: socket.socket) -> str:
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host = f"[{options.host}]" if listening.family == socket.AF_INET6 else options.host
    return f"http://{host}:{listening.getsockname()[1]}/"


def _listen_on_file(path: str) -> socket.socket:
    """Return a socket that listens on a file, which only this user and its group reach. Raises SettingsError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        if Path(path).is_socket() and not _is_served(path):  # of a console that has ended
            Path(path).unlink()
        listening.bind(path)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SettingsError(
            "the console cannot be served on {file}: {why}", file=path, why=system_reason(error)
        ) from error
    finally:
        os.umask(before)
    return listening


def _is_served(path: str) -> bool:
    """Return whether somebody answers on a socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        return asking.connect_ex(path) == 0


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
        http=BoundedHeads,
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

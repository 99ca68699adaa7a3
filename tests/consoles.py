"""A served console, and what asks it: like a browser on one of its pages, or by raw bytes."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import argon2
import pytest
import requests
import uvicorn
from factories import Command, makes_services, wait_until

from tasks.operations import console_users, upload_check
from tasks.operations.console_users import add_user
from tasks.services import Services
from tests import warm
from worker.console.command import _config

_numbers = itertools.count(1)
PASSWORD = "correct horse battery"


@contextlib.contextmanager
def quick_consoles() -> Iterator[None]:
    """Let consoles of this process be quick.

    Digests of passwords, which take a quarter of a second each, cost next to nothing, and a process that checks an
    upload need not load what it is made of, which takes a second.
    """
    hasher = argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload_check, "subprocess", warm.subprocess_of_given())
        patch.setattr(console_users, "_hasher", lambda: hasher)
        console_users._nobodys_digest.cache_clear()
        yield


@contextlib.contextmanager
def served(services: Services, *, socket_file: str | None = None, port: int = 0) -> Iterator[str]:
    """Serve the console as the command does, on a free port or a socket file; its address."""
    if socket_file:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(socket_file)
        listener.listen()
    else:
        listener = socket.create_server(("127.0.0.1", port))
    with listener:
        server = uvicorn.Server(_config(services))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, what="the start of the console")
        try:
            yield socket_file or f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def running(onboard: Command, *words: str, preexec: Callable[[], None] | None = None) -> Iterator[str]:
    """Run `onboard console` as a process; the address that it says."""
    output = onboard.folder / f"said{next(_numbers)}"
    with output.open("w") as file:
        console = onboard.start("console", *words, stdout=file.fileno(), stderr=file.fileno(), preexec=preexec)
        found = re.compile(r"review pages are at (\S+);")
        wait_until(
            lambda: found.search(output.read_text()) or console.poll() is not None, 60, "the start of the console"
        )
        said = found.search(output.read_text())
        assert said, output.read_text()
        try:
            yield said[1].rstrip("/")
        finally:
            console.send_signal(signal.SIGINT)
            console.wait(60)


@contextlib.contextmanager
def signed_up(folder: Path, people: Mapping[str, str], **settings: str) -> Iterator[Services]:
    """Make an installation whose console these people may sign in to: name -> role."""
    with makes_services(folder, ONBOARD_CONSOLE_URL="https://review.example.jp", **settings) as made:
        services: Services = made()
        for name, role in people.items():
            add_user(services, name, role, PASSWORD)
        yield services


@dataclass
class Browser:
    """What a person has in front of them: it keeps cookies, and says where its forms come from."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **more: Any) -> requests.Response:
        """Follow a link."""
        return self.session.get(self.url + path, allow_redirects=False, timeout=60, **more)

    def post(self, path: str, form: dict[str, str] | None = None, **more: Any) -> requests.Response:
        """Send a form of one of the console's pages."""
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", **more.pop("headers", {})}
        return self.session.post(self.url + path, data=form, headers=headers, allow_redirects=False, timeout=60, **more)

    def sign_in(self, name: str, password: str = PASSWORD, **more: str) -> requests.Response:
        """Sign in with a password."""
        return self.post("/sign-in", {"name": name, "password": password, **more})

    @property
    def is_signed_in(self) -> bool:
        """Whether a page is shown."""
        return self.get("/").status_code == 200


def raw(url: str, request: bytes, seconds: float = 10.0) -> bytes:
    """Send bytes, and return all that comes back until the end, or until nothing more comes."""
    if url.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(url)
    else:
        parts = urlsplit(url)
        connection = socket.create_connection((parts.hostname, parts.port))
    with connection:
        connection.settimeout(seconds)
        connection.sendall(request)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                found += part
        return found


def asked(path: str = "/", host: str = "localhost", method: str = "GET", **headers: str) -> bytes:
    """A request as bytes, after which the connection ends."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status_of(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1]) if answer else 0

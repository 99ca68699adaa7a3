"""Servers with TLS and a certificate of their own making."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest


def certificate(folders: pytest.TempPathFactory, name: str = "localhost") -> Path:
    """A folder with a key and a certificate of its own making for a name."""
    folder = folders.mktemp("tls")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    files = ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(["openssl", *made, *files], check=True, capture_output=True)
    return folder


def tls_server(folder: Path, serve: Callable[[ssl.SSLSocket], None]) -> socket.socket:
    """A listening socket that shakes hands and then serves each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    listening = socket.create_server(("localhost", 0))

    def shake() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                    serve(secured)

    threading.Thread(target=shake, daemon=True).start()
    return listening

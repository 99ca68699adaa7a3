"""The real nginx with a sample of a page, on free ports of the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from factories import program, wait_until
from listeners import free_port

#: The sample stands in its `http`; every other line keeps nginx off the machine's own folders.
_CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    port_in_redirect off; # as for 443
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{sample}
}}
"""


class Nginx:
    """nginx with a sample in which ports, paths and other texts are replaced; each must stand in it."""

    def __init__(self, sample: str, replaced: dict[str, str]) -> None:
        self.http, self.https = free_port(), free_port()
        self._sample = sample.replace("listen 80;", f"listen 127.0.0.1:{self.http};")
        for old, new in {"listen 443 ssl;": f"listen 127.0.0.1:{self.https} ssl;", **replaced}.items():
            assert old in self._sample, old
            self._sample = self._sample.replace(old, new)

    def __enter__(self) -> Nginx:
        nginx = program("nginx", "/usr/sbin/nginx")
        self._folder = Path(tempfile.mkdtemp(prefix="nginx"))
        user = "user root;" if os.getuid() == 0 else ""  # or its workers could not read this test's files
        configuration = self._folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(folder=self._folder, user=user, sample=self._sample))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [nginx, "-e", "stderr", "-p", str(self._folder), "-c", str(configuration)], stdout=log, stderr=log
            )
        wait_until(self._is_there, 20, "the start of nginx")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._folder)

    def log(self) -> str:
        """What it has to say."""
        return (self._folder / "log").read_text()

    def _is_there(self) -> bool:
        assert self._process.poll() is None, self.log()
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.https)) == 0

"""What stands in oauth2-proxy's place behind nginx: its documented answers to `auth_request`, and a sign-in.

Of version 7.15.3: `/oauth2/auth` says 202 and who it is, the groups in one header with commas between, or 401;
`/oauth2/sign_in?rd=` leads, by way of the provider, back to a path of the same site.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COOKIE = "_oauth2_proxy"


@dataclass
class SignInProxy:
    """Signs in whoever `person` is at that time: a name, and groups."""

    port: int = 0
    person: tuple[str, list[str]] = ("", [])
    sessions: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)  #: the headers of each request, names in lower case
    bytes_of_bodies: int = 0


@contextmanager
def signs_in() -> Iterator[SignInProxy]:
    """Serve one on a free port of the loopback."""
    proxy = SignInProxy()

    class Handler(_Handler):
        ours = proxy

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    ours: SignInProxy

    def do_GET(self) -> None:
        self.ours.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.ours.bytes_of_bodies += int(self.headers.get("Content-Length", "0"))
        parts = urlsplit(self.path)
        back = parse_qs(parts.query).get("rd", ["/"])[0]
        match parts.path:
            case "/oauth2/auth":
                self._auth()
            case "/oauth2/sign_in":
                self._answer(302, Location=f"/oauth2/callback?rd={back if _is_path(back) else '/'}")
            case "/oauth2/callback":
                secret = secrets.token_urlsafe()
                self.ours.sessions[secret] = self.ours.person
                cookie = f"{COOKIE}={secret}; Path=/; HttpOnly; Secure"
                self._answer(302, Location=back, Set_Cookie=cookie)
            case "/oauth2/sign_out":
                self.ours.sessions.pop(self._secret(), None)
                self._answer(302, Location="/", Set_Cookie=f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; Secure")
            case _:
                self._answer(404)

    def _auth(self) -> None:
        session = self.ours.sessions.get(self._secret())
        if session is None:
            self._answer(401)
            return
        name, groups = session
        self._answer(
            202,
            X_Auth_Request_User="9f2c1d34-0000-4000-8000-5b8e1c2d3f4a",  # `sub`, as Keycloak makes it
            X_Auth_Request_Email=f"{name}@example.jp",
            X_Auth_Request_Preferred_Username=name,
            X_Auth_Request_Groups=",".join(groups),
        )

    def _secret(self) -> str:
        found = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        return found.value if found else ""

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value.encode("utf-8").decode("latin-1"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _is_path(back: str) -> bool:
    return back.startswith("/") and not back.startswith(("//", "/\\"))

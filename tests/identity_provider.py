"""A small OpenID Connect provider on loopback: it signs people in by a word of the test, and can lie in every way."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import uvicorn
from factories import wait_until
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "onboard-console", "the secret of the console"


@dataclass
class IdentityProvider:
    """What it says of the next person; `claims` replace those of its token, None leaves one out."""

    issuer: str = ""
    name: str = "hana.suzuki"
    groups: list[str] | None = field(default_factory=lambda: ["leads"])
    claims: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    named_issuer: str | None = None
    token: str | None = None
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, auto_kid=False))
    signs_with: RSAKey | OctKey | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        """Its four addresses."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._about),
                Route("/keys", self._keys),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def _about(self, _request: Request) -> Response:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return JSONResponse(
            {"issuer": self.named_issuer or self.issuer, **{key: f"{self.issuer}/{at}" for key, at in names.items()}}
        )

    def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.asked.append(query)
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}")

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            query = self.codes.pop(str(form.get("code")), None)
            verifier = str(form.get("code_verifier", ""))
            basic = base64.b64encode(f"{CLIENT}:{SECRET.replace(' ', '%20')}".encode()).decode()
        given = request.headers.get("authorization", "")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        proven = (
            query is not None and query.get("code_challenge_method") == "S256" and query["code_challenge"] == digest
        )
        if not proven or query is None or given.replace("+", "%20") not in (f"Basic {basic}", _plain_basic()):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._id_token(query["nonce"])})

    def _id_token(self, nonce: str) -> str:
        if self.token is not None:
            return self.token
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 60, "nonce": nonce,
            "preferred_username": self.name, "groups": self.groups, **self.claims,
        }  # fmt: skip
        given = {name: value for name, value in claims.items() if value is not None}
        algorithms = ["RS256", "HS256", "RS512", "none"]
        return str(
            jwt.encode({"alg": self.algorithm, "kid": self.key.kid}, given, self.signs_with or self.key, algorithms)
        )


def _plain_basic() -> str:
    return "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()


@contextlib.contextmanager
def provided() -> Iterator[IdentityProvider]:
    """Serve one on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = IdentityProvider(f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(provider.app(), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, what="the start of the provider")
        try:
            yield provider
        finally:
            server.should_exit = True
            thread.join()

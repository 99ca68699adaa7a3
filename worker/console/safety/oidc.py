"""The sign-in at an OpenID Connect provider: authorization code with PKCE, begun by a link.

1. the browser gets a cookie with state, nonce and code verifier, and goes to the provider
2. it comes back with a code; the state must be that of its cookie
3. the code is changed for an ID token, with the verifier
4. issuer, audience, time, nonce and signature of the token are checked; the algorithms are pinned
5. the groups in it give a role; who has none, or a token without groups, is refused

The provider's endpoints and keys are read from its issuer, and read again when a token names a key that is not known.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tasks.operations.access_history import record_refused_sign_in
from tasks.operations.sign_in import sign_in
from tasks.services import Services
from tasks.settings import Settings
from worker.console.page_texts import page, services_of
from worker.console.people import Person
from worker.console.safety.groups import person_of_groups
from worker.console.safety.known_people import SIGN_IN
from worker.console.safety.refusals import refusal
from worker.console.safety.session_cookie import cookie_name, give_cookie, take_cookie

log = structlog.get_logger("onboard")

#: No `none`, and no algorithm with a shared secret.
ALGORITHMS = ["RS256", "PS256", "ES256"]
START, RETURN = f"{SIGN_IN}/oidc", f"{SIGN_IN}/oidc/return"
_TIMEOUT_SECONDS, _STATE_SECONDS, _LEEWAY_SECONDS = 10.0, 600.0, 60
_PURPOSE = "-oidc"


#: Refusals of somebody whom the provider has let in.
_FROM_PROVIDER = ("token", "groups", "role")


class NotProven(Exception):
    """What came back proves nobody; the word says why, and quotes nothing."""


class Provider:
    """An OpenID Connect provider, known by its issuer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._about: Mapping[str, Any] | None = None
        self._keys: KeySet | None = None

    @property
    def return_address(self) -> str:
        """Where the provider sends the browser back."""
        return self._settings.console_url.rstrip("/") + RETURN

    def address(self, state: str, nonce: str, verifier: str) -> str:
        """Return where somebody proves who they are. Raises NotProven."""
        with self._client() as client:
            address, _ = client.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, nonce=nonce, code_verifier=verifier
            )
        return str(address)

    def person(self, code: str, nonce: str, verifier: str) -> Person:
        """Return who has come back with a code. Raises NotProven."""
        try:
            with self._client() as client:
                answer = client.fetch_token(
                    self._endpoint("token_endpoint"), code=code, code_verifier=verifier, grant_type="authorization_code"
                )
        except Exception as error:  # the library has a dozen; each means that the code was not taken
            raise NotProven("code") from error
        claims = self._claims(str(answer.get("id_token", "")), nonce)
        settings = self._settings
        groups = claims.get(settings.console_oidc_groups_claim)
        if not isinstance(groups, list):
            raise NotProven("groups")
        person = person_of_groups(settings, claims.get(settings.console_oidc_name_claim), groups)
        if person is None:
            raise NotProven("role")
        return person

    def _client(self) -> OAuth2Client:
        settings = self._settings
        secret = settings.console_oidc_client_secret
        return OAuth2Client(
            settings.console_oidc_client_id,
            secret.get_secret_value() if secret else None,
            scope=f"openid {settings.console_oidc_scopes}".strip(),
            redirect_uri=self.return_address,
            code_challenge_method="S256",
            timeout=_TIMEOUT_SECONDS,
        )

    def _endpoint(self, name: str) -> str:
        if self._about is None:
            about = _read_json(f"{self._settings.console_oidc_issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != self._settings.console_oidc_issuer:
                raise NotProven("issuer")
            self._about = about
        address = str(self._about.get(name, ""))
        if urlsplit(address).scheme not in ("https", urlsplit(self._settings.console_oidc_issuer).scheme):
            raise NotProven("endpoint")
        return address

    def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        settings = self._settings
        registry = JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": settings.console_oidc_issuer},
            aud={"essential": True, "value": settings.console_oidc_client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            decoded = self._decoded(token)
            registry.validate(decoded)
        except (JoseError, ValueError) as error:
            raise NotProven("token") from error
        if decoded.get("azp", settings.console_oidc_client_id) != settings.console_oidc_client_id:
            raise NotProven("token")
        return decoded

    def _decoded(self, token: str) -> dict[str, Any]:
        if self._keys is not None:
            try:
                return dict(jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims)
            except (JoseError, ValueError):
                pass  # perhaps it is signed with a key that is newer than what was read
        self._keys = KeySet.import_key_set(_read_json(self._endpoint("jwks_uri")))  # type: ignore[arg-type]
        return dict(jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims)


def _read_json(address: str) -> dict[str, Any]:
    try:
        answer = httpx2.get(address, timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        found = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise NotProven("provider") from error
    if not isinstance(found, dict):
        raise NotProven("provider")
    return found


def routes(services: Services) -> list[Route]:
    """Return the addresses of the sign-in."""
    provider = Provider(services.settings)

    def show(request: Request) -> Response:
        return page(request, "sign_in.html.j2", next="/", sentence="", oidc=True)

    def start(request: Request) -> Response:
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        try:
            response: Response = RedirectResponse(provider.address(state, nonce, verifier), HTTPStatus.SEE_OTHER)
        except NotProven as error:
            return _refused(request, error)
        give_cookie(response, request, f"{state}.{nonce}.{verifier}", purpose=_PURPOSE, seconds=_STATE_SECONDS)
        return response

    def come_back(request: Request) -> Response:
        try:
            person = _proven(request, provider)
        except NotProven as error:
            return _refused(request, error)
        secret = sign_in(services_of(request), person.name, person.role, way="OpenID Connect")
        log.info("signed in", who=person.name, way="OpenID Connect")
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        take_cookie(response, request, purpose=_PURPOSE)
        give_cookie(response, request, secret)
        return response

    return [Route(SIGN_IN, show), Route(START, start), Route(RETURN, come_back)]


def _proven(request: Request, provider: Provider) -> Person:
    parts = request.cookies.get(cookie_name(request, _PURPOSE), "").split(".")
    given, code = request.query_params.get("state", ""), request.query_params.get("code", "")
    if len(parts) != 3 or not code or not secrets.compare_digest(parts[0].encode(), given.encode()):
        raise NotProven("state")
    return provider.person(code, parts[1], parts[2])


def _refused(request: Request, error: NotProven) -> Response:
    log.warning("sign-in refused", why=str(error))
    if str(error) in _FROM_PROVIDER:  # anybody can ask for the others, as often as they like
        record_refused_sign_in(services_of(request))
    response = refusal(request, HTTPStatus.FORBIDDEN, "oidc_refused")
    take_cookie(response, request, purpose=_PURPOSE)
    return response

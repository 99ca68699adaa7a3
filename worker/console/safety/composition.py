"""What the settings make of the modules below; whether a start is safe."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.routing import Route

from tasks.errors import SettingsError
from tasks.operations.console_users import list_users
from tasks.services import Services
from worker.console.safety import password_sign_in, signing_out
from worker.console.safety.answer_headers import SafeAnswers
from worker.console.safety.attempts import FILE_NAME, Attempts
from worker.console.safety.body_limits import AnsweredAtTheEnd, BoundedBodies
from worker.console.safety.caught_failures import CaughtFailures
from worker.console.safety.known_people import Identify, KnownPeople, by_session, everybody_looks
from worker.console.safety.proxy import NamedProxies, ProxyWord, networks_of
from worker.console.safety.request_checks import CheckedRequests


def is_read_only(services: Services) -> bool:
    """Return whether there is no way to sign in: everybody may look, and personal data is masked."""
    return services.settings.console_sign_in == "password" and not list_users(services)


def routes_of(services: Services) -> list[Route]:
    """Return the addresses of the sign-in."""
    settings = services.settings
    if settings.console_sign_in == "oidc":
        from worker.console.safety import oidc

        return [*oidc.routes(services), *signing_out.ROUTES]
    if settings.console_sign_in == "password" and not is_read_only(services):
        attempts = Attempts(settings.home / FILE_NAME)
        return [*password_sign_in.routes(attempts, NamedProxies(settings)), *signing_out.ROUTES]
    return []


def middleware_of(services: Services, identify: Identify | None = None) -> list[Middleware]:
    """Return what each request goes through, from the outside; `identify` says who asks, if not the settings do."""
    settings = services.settings
    if identify is not None:
        people = Middleware(KnownPeople, identify, has_sign_in=False)
    elif settings.console_sign_in == "proxy":
        people = Middleware(KnownPeople, ProxyWord(settings).person, has_sign_in=False)
    elif is_read_only(services):
        people = Middleware(KnownPeople, everybody_looks, has_sign_in=False)
    else:
        people = Middleware(KnownPeople, by_session(services), has_sign_in=True)
    return [
        Middleware(AnsweredAtTheEnd),
        Middleware(SafeAnswers),
        Middleware(CaughtFailures),
        Middleware(CheckedRequests, _hosts(settings.console_url)),
        people,
        Middleware(BoundedBodies, file_path="/upload", file_bytes=settings.console_upload_megabytes << 20),
    ]


def _hosts(url: str) -> list[str]:
    return [urlsplit(url).netloc.lower()] if url else []


def require_safe_start(services: Services, host: str) -> None:
    """Raise SettingsError if the console would let in whoever reaches it, or believe whoever claims a name."""
    settings = services.settings
    _require_networks(settings.console_proxies)
    if settings.console_sign_in == "proxy":
        _require_proxy(services)
    elif settings.console_sign_in == "oidc":
        _require_oidc(services)
    elif not settings.console_socket and not _is_loopback(host) and is_read_only(services):
        raise SettingsError(
            "{host} can be reached from other machines, and nobody has to sign in: `onboard console add-user`, or set"
            " ONBOARD_CONSOLE_SIGN_IN (docs/run/console.md)",
            host=host,
        )


def _require_proxy(services: Services) -> None:
    settings = services.settings
    if not settings.console_proxies and not settings.console_socket:
        raise SettingsError(
            "ONBOARD_CONSOLE_SIGN_IN is proxy: name its addresses in ONBOARD_CONSOLE_PROXIES, or a socket file in"
            " ONBOARD_CONSOLE_SOCKET, or anybody could send its headers"
        )
    _require_groups(services)


def _require_networks(addresses: Iterable[str]) -> None:
    try:
        networks_of(addresses)
    except ValueError:
        raise SettingsError(
            "ONBOARD_CONSOLE_PROXIES must be addresses or networks such as 10.0.0.5 or 10.0.1.0/24"
        ) from None


def _require_oidc(services: Services) -> None:
    settings = services.settings
    given = (settings.console_oidc_issuer, settings.console_oidc_client_id, settings.console_url)
    if not all(given):
        raise SettingsError(
            "ONBOARD_CONSOLE_SIGN_IN is oidc: set ONBOARD_CONSOLE_OIDC_ISSUER, ONBOARD_CONSOLE_OIDC_CLIENT_ID and"
            " ONBOARD_CONSOLE_URL"
        )
    if find_spec("authlib") is None:
        raise SettingsError("OpenID Connect is an extra: install `elepay-onboarding[console,oidc]`")
    _require_groups(services)


def _require_groups(services: Services) -> None:
    settings = services.settings
    if not (settings.console_viewers or settings.console_operators or settings.console_approvers):
        raise SettingsError(
            "no group has a role: name groups in ONBOARD_CONSOLE_VIEWERS, ONBOARD_CONSOLE_OPERATORS and"
            " ONBOARD_CONSOLE_APPROVERS"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

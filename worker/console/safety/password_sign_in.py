"""The sign-in with name and password."""

from __future__ import annotations

import math
from http import HTTPStatus

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tasks.operations import console_users
from tasks.operations.access_history import record_refused_sign_in
from tasks.operations.console_users import LONGEST_NAME, list_users, user_with_password
from tasks.operations.four_eyes import person_key
from tasks.operations.sign_in import sign_in
from worker.console.page_texts import page, services_of, texts_of
from worker.console.safety.attempts import Attempts
from worker.console.safety.known_people import SIGN_IN
from worker.console.safety.proxy import NamedProxies
from worker.console.safety.session_cookie import give_cookie

log = structlog.get_logger("onboard")


def routes(attempts: Attempts, proxies: NamedProxies) -> list[Route]:
    """Return the addresses of the sign-in; `attempts` counts who failed, `proxies` say from where."""

    async def take(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=3) as form:
            return await run_in_threadpool(_take, request, form, attempts, proxies.address(request))

    return [Route(SIGN_IN, take, methods=["POST"]), Route(SIGN_IN, show)]


def show(request: Request) -> Response:
    """Show the form."""
    return page(request, "sign_in.html.j2", next=safe_path(request.query_params.get("next")), sentence="", oidc=False)


def _take(request: Request, form: FormData, attempts: Attempts, address: str) -> Response:
    name, password = str(form.get("name", ""))[:LONGEST_NAME], str(form.get("password", ""))
    key, services = person_key(name), services_of(request)
    wait = attempts.seconds_to_wait(key, address)
    if wait > 0:
        return _again(request, form, HTTPStatus.TOO_MANY_REQUESTS, wait)
    user = user_with_password(services, name, password)
    if user is None:
        known = console_users.find(list_users(services), name)
        record_refused_sign_in(services, who=known.name if known else "")
        log.warning("sign-in refused", address=address)
        return _again(request, form, HTTPStatus.FORBIDDEN)
    attempts.succeeded(key, address)
    response = RedirectResponse(safe_path(str(form.get("next", ""))), HTTPStatus.SEE_OTHER)
    give_cookie(response, request, sign_in(services, user.name, user.role, way="password"))
    log.info("signed in", who=user.name, way="password")
    return response


def _again(request: Request, form: FormData, status: int, wait: float = 0.0) -> Response:
    texts, seconds = texts_of(request), math.ceil(wait)
    sentence = texts("sign_in_wait", count=seconds) if seconds else texts("sign_in_refused")
    wanted = safe_path(str(form.get("next", "")))
    response = page(request, "sign_in.html.j2", status=status, next=wanted, sentence=sentence, oidc=False)
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def safe_path(path: str | None) -> str:
    """Return where somebody wanted to go, if that is a page of this console, else the first page."""
    if not path or not path.startswith("/") or path.startswith("//") or not path.isprintable() or "\\" in path:
        return "/"
    return path

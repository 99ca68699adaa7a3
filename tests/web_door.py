"""A throw-away web door: it parses a form, calls one of `tasks.operations`, and shows what that returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.errors import OnboardingError
from tasks.operations.approve import approve
from tasks.operations.batch_status import BatchStatus
from tasks.operations.resolve import give_up, list_unclear, resolve_as_absent, resolve_as_created
from tasks.services import Services


def app(services: Services) -> Starlette:
    """Return the pages: rows that wait for a person, and what a person decides."""

    def decide(row: tuple[int, int], form: dict[str, str], who: str) -> BatchStatus:
        match form["decision"]:
            case "created":
                return resolve_as_created(services, *row, form["source"], who=who).status
            case "absent":
                return resolve_as_absent(services, *row, who=who).status
        return give_up(services, *row, who=who).status

    async def unclear(_request: Request) -> Response:
        return JSONResponse([row._asdict() for row in await run_in_threadpool(list_unclear, services)])

    async def resolve_row(request: Request) -> Response:
        form, who = await _form(request)
        row = request.path_params["batch"], request.path_params["line"]
        return await _show(lambda: decide(row, form, who))

    async def approve_batch(request: Request) -> Response:
        _, who = await _form(request)
        return await _show(lambda: approve(services, request.path_params["batch"], who=who))

    rows = Route("/batches/{batch:int}/rows/{line:int}", resolve_row, methods=["POST"])
    canary = Route("/batches/{batch:int}/approve", approve_batch, methods=["POST"])
    return Starlette(routes=[Route("/unclear", unclear), rows, canary])


async def _form(request: Request) -> tuple[dict[str, str], str]:
    return await request.json(), f"{request.headers['x-user']}@pages"


async def _show(operation: Callable[[], BatchStatus]) -> Response:
    try:
        status: Any = await run_in_threadpool(operation)
    except OnboardingError as error:
        return JSONResponse({"error": str(error)}, status_code=409)
    return JSONResponse({"state": status.batch.state, "counts": dataclasses.asdict(status.counts)})

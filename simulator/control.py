"""The control room below `/_sim/`: knobs, statistics, sources, offline windows. No key: not for strangers.

GET   /_sim/health                  {"status": "ok", "profile": NAME, "seed": N}
GET   /_sim/statistics              the books of the run:

    created                  sources ever created, deleted ones included
    references               {"total": different references, "doubled": at most 100 references that more than one source
                             carries which is not deleted, "doubled_count": how many of those there are}
    without_reference        sources without our reference in their metadata
    requests                 {operation: count}; also `unknownPath` and `wrongMethod`
    answers                  {errorCode or HTTP status: count}; `none` for a closed or abandoned connection
    faults                   {name of the knob: count}, counted when the fault is carried out
    throttled                answers "too many requests", whatever their form and reason
    wrong_auth, missing_auth requests with a key that is not right for them, and without one
    requests_per_second      [[epoch second, count], ...] of all requests except those below /_sim/
    creates_per_second       the same for createSource alone
    worst_second             most requests that arrived in any sliding second
    worst_second_creates     the same for createSource alone
    first_request_at, last_request_at, first_create_at, last_create_at      epoch seconds, or null
    distinct_keys_seen       different rows (customer, method, resource, reference) that createSource was asked for

GET   /_sim/sources?offset=&limit=  {"total": N, "sources": [{"id", "customerId", "paymentMethod", "reference",
                                    "status", "liveMode"}, ...]} in the order of creation; limit 1000 by default,
                                    100000 at most; with &secrets=true also "credential" and "cardholder", which
                                    nobody may pass on
POST  /_sim/sources/{id}/status     {"status": "active"}: the end user authorises, fails, cancels
GET   /_sim/control                 every knob
POST  /_sim/control                 {knob: value, ...}, PATCH as well: changed at once, answers every knob; 400 with the
                                    name of an unknown or malformed knob, and then nothing has changed
POST  /_sim/reset                   {"profile": NAME, "seed": N}, both optional: no sources, counts from zero
POST  /_sim/offline                 {"seconds": 20, "drop_connections": true}: the listening socket is closed for so
                                    long, so that connects are refused; by default open connections are cut as well
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator import answers
from simulator.api import Api
from simulator.catalogue import STATUSES
from simulator.profile import ProfileError, as_plain, changed, load_profile

#: Takes the server offline for some seconds; the flag says whether open connections are cut.
Offline = Callable[[float, bool], Awaitable[None]]

DEFAULT_LIMIT = 1000
MAX_LIMIT = 100_000


class ControlRoom:
    """The handlers of `/_sim/...`."""

    def __init__(self, api: Api, profile_name: str, offline: Offline) -> None:
        self._api = api
        self._profile_name = profile_name
        self._offline = offline

    def app(self) -> Starlette:
        """Return the ASGI application of the control room."""
        return Starlette(
            routes=[
                Route("/_sim/health", self._health),
                Route("/_sim/statistics", self._statistics),
                Route("/_sim/sources", self._sources),
                Route("/_sim/sources/{source_id}/status", self._set_status, methods=["POST"]),
                Route("/_sim/control", self._knobs),
                Route("/_sim/control", self._change, methods=["POST", "PATCH"]),
                Route("/_sim/reset", self._reset, methods=["POST"]),
                Route("/_sim/offline", self._go_offline, methods=["POST"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return _json({"status": "ok", "profile": self._profile_name, "seed": self._api.elepay.seed})

    async def _statistics(self, _request: Request) -> Response:
        elepay = self._api.elepay
        return _json(elepay.tally.as_json(elepay.sources, elepay.faults.distinct_keys))

    async def _sources(self, request: Request) -> Response:
        sources = self._api.elepay.sources
        offset = _whole_number(request, "offset", 0)
        limit = min(_whole_number(request, "limit", DEFAULT_LIMIT), MAX_LIMIT)
        secrets = request.query_params.get("secrets") == "true"
        shown = []
        for position in range(offset, min(offset + limit, len(sources))):
            record = sources.record(position)
            shown.append(
                {
                    "id": sources.id_of(position),
                    "customerId": record.customer_id,
                    "paymentMethod": record.payment_method,
                    "reference": record.reference,
                    "status": sources.status(position),
                    "liveMode": record.live_mode,
                    **(answers.secrets_of(sources, position) if secrets else {}),
                }
            )
        return _json({"total": len(sources), "sources": shown})

    async def _set_status(self, request: Request) -> Response:
        sources = self._api.elepay.sources
        position = sources.position_of(request.path_params["source_id"])
        if position is None:
            raise HTTPException(404, "no such source")
        status = (await _body(request)).get("status")
        if status not in STATUSES:
            raise HTTPException(400, f"status must be one of {', '.join(STATUSES)}")
        sources.set_status(position, status)
        return _json({"id": request.path_params["source_id"], "status": status})

    async def _knobs(self, _request: Request) -> Response:
        return _json(as_plain(self._api.elepay.profile))

    async def _change(self, request: Request) -> Response:
        changes = await _body(request)
        elepay = self._api.elepay
        try:
            elepay.change(changed(elepay.profile, changes))
        except ProfileError as error:
            raise HTTPException(400, str(error)) from error
        return _json(as_plain(elepay.profile))

    async def _reset(self, request: Request) -> Response:
        wanted = await _body(request)
        name, seed = wanted.get("profile", self._profile_name), wanted.get("seed", self._api.elepay.seed)
        if not isinstance(name, str) or not isinstance(seed, int) or not wanted.keys() <= {"profile", "seed"}:
            raise HTTPException(400, "reset takes a profile's name and a seed")
        try:
            profile = load_profile(name)
        except ProfileError as error:
            raise HTTPException(400, str(error)) from error
        self._profile_name = name
        self._api.reset(profile, seed)
        return await self._health(request)

    async def _go_offline(self, request: Request) -> Response:
        wanted = await _body(request)
        seconds, drop = wanted.get("seconds"), wanted.get("drop_connections", True)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600:
            raise HTTPException(400, "seconds must be more than 0 and at most 3600")
        if not isinstance(drop, bool):
            raise HTTPException(400, "drop_connections must be true or false")
        return _json({"offline_for_seconds": seconds}, BackgroundTask(self._offline, float(seconds), drop))


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a control call; an empty body is an empty object."""
    raw = await request.body()
    try:
        content = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return content


def _whole_number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise HTTPException(400, f"{name} must be a whole number")
    return int(text)


def _json(content: Any, background: BackgroundTask | None = None) -> Response:
    return Response(orjson.dumps(content), media_type="application/json", background=background)

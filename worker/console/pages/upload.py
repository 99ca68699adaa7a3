"""A file that somebody uploads: streamed to the disk, checked, seen, and only then sent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tasks.errors import LedgerError, OnboardingError, UnusableFile
from tasks.operations import uploads
from tasks.operations.status import is_fleet_at_work
from tasks.operations.upload_check import CheckedUpload
from tasks.operations.uploads import Upload
from tasks.reason_texts import explain_file, hint, title
from tasks.reports.check_headline import check_headline
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import advise
from tasks.reports.run_facts import warnings_in_words
from worker.console.page_texts import back_to, page, person_of, services_of, texts_of, whole_number
from worker.console.pages.row_words import cells_in_order, reasons_in_words
from worker.console.people import Role, needs, require
from worker.console.uploaded_file import TooLarge, UploadedFile
from worker.failures import failure_of

_EVERY_SECONDS = 1


def form(request: Request) -> Response:
    """Show the form."""
    return page(
        request,
        "upload.html.j2",
        most=_most_megabytes(request),
        is_fleet_at_work=is_fleet_at_work(services_of(request)),
    )


def _most_megabytes(request: Request) -> int:
    """Return how large an upload may be; one that is larger is refused while it arrives."""
    return services_of(request).settings.console_upload_megabytes


async def upload(request: Request) -> Response:
    """Take a file, as it arrives, and have it checked."""
    require(request, Role.OPERATOR)
    try:
        token = await _receive(request)
    except TooLarge:
        return await _refused(
            request, "upload_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most=_most_megabytes(request)
        )
    except ValueError:
        return await _refused(request, "upload_is_none", HTTPStatus.BAD_REQUEST)
    return RedirectResponse(f"/upload/{token}", HTTPStatus.SEE_OTHER)


async def _refused(request: Request, key: str, status: int, **values: object) -> Response:
    """Say why nothing was taken, and hear no more of it: the rest of the upload would go on arriving."""
    sentence = texts_of(request)(key, **values)
    answer = await run_in_threadpool(page, request, "sorry.html.j2", status=status, sentence=sentence)
    answer.headers["Connection"] = "close"
    return answer


async def _receive(request: Request) -> str:
    """Write a file to the disk while it arrives; return its token. Raises TooLarge; ValueError for no file."""
    arriving = UploadedFile(request.headers.get("content-type", ""), _most_megabytes(request) << 20)
    chunks: AsyncIterator[bytes] = request.stream()
    async for chunk in chunks:
        arriving.feed(chunk)
        if arriving.name is not None:
            break
    if not arriving.name:
        raise ValueError("no file")
    receiving = uploads.receive(services_of(request), arriving.name, who=person_of(request).name)
    token, target = await run_in_threadpool(receiving.__enter__)
    try:
        await run_in_threadpool(arriving.write_to, target)
        async for chunk in chunks:
            arriving.feed(chunk)
            await run_in_threadpool(arriving.write_to, target)
        arriving.end()
    except BaseException as error:
        await run_in_threadpool(receiving.__exit__, type(error), error, None)
        raise
    await run_in_threadpool(receiving.__exit__, None, None, None)
    return token


class _Cause(NamedTuple):
    rows: int
    title: str
    hint: str
    example: str
    lines: str


def one(request: Request) -> Response:
    """Show what would become of an uploaded file."""
    return _one(request, uploads.find(services_of(request), request.path_params["token"]))


def _one(request: Request, found: Upload) -> Response:
    if found.batch_id is not None:
        return _to_batch(request, f"/batches/{found.batch_id}?said=accepted")
    texts = texts_of(request)
    waits = (found.check is None and not found.is_checked_by_nobody) or found.is_being_accepted
    return page(
        request,
        "uploaded.html.j2",
        upload=found,
        waits=waits,
        every=_EVERY_SECONDS if waits else 0,
        problem=_problem(found, texts),
        is_fleet_at_work=is_fleet_at_work(services_of(request)),
        canary=services_of(request).settings.canary,
        **(_checked(request, found.check) if found.check and found.check.checked else {"checked": None}),
    )


def _to_batch(request: Request, path: str) -> Response:
    """Lead to the batch; a refreshment in a page would otherwise put that page's content into this one."""
    if "HX-Request" in request.headers:
        return Response(headers={"HX-Redirect": path})
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def _problem(found: Upload, texts: Texts) -> tuple[str, str] | None:
    """Return what is wrong with a file as a whole, or with its acceptance: a sentence, and what to do."""
    error: OnboardingError | None = found.error or (found.check.error if found.check else None)
    if error is None:
        return (texts("upload_check_died"), "") if found.is_checked_by_nobody else None
    if isinstance(error, UnusableFile):
        return explain_file(error, texts.lang)
    return failure_of(error).message.in_language(texts.lang), ""


def _checked(request: Request, check: CheckedUpload) -> dict[str, object]:
    texts, checked = texts_of(request), check.checked
    assert checked
    assert checked.facts.check
    titles = checked.opened.format.header
    done_at = None if checked.seconds is None else time.time() + checked.seconds
    return {
        "checked": checked,
        "headline": check_headline(checked.facts.check, checked.facts.counts, checked.skipped, texts),
        "causes": advise(checked.facts, list(checked.to_do), texts),
        "left_out": [
            _Cause(task.rows, title(task.key.code, texts.lang), hint(task.example, texts.lang), "", texts.lines(task))
            for task in checked.left_out
        ],
        "warnings": warnings_in_words(checked.facts.warnings, texts),
        "lines": [
            (
                row,
                reasons_in_words(row, texts, None),
                cells_in_order(titles, check.cells.get(row.line, ()), row, texts),
            )
            for row in checked.rows[: len(check.cells)]
        ],
        "more_lines": checked.invalid - len(check.cells),
        "forecast": _forecast(checked.to_send, checked.requests_per_second, done_at, texts),
    }


def _forecast(rows: int, rate: float, done_at: float | None, texts: Texts) -> str:
    if done_at is None:
        return texts("forecast_without_limit", count=rows)
    time_of_end = texts.time(done_at, texts("time_minute_zone"))
    return texts("forecast", count=rows, rate=texts.rate(rate), time=time_of_end)


@needs(Role.OPERATOR)
def send(request: Request, form: FormData) -> Response:
    """Let a checked file become a batch: all of it, or some rows first."""
    services, token = services_of(request), request.path_params["token"]
    wants_canary = form.get("how") == "canary"
    canary = whole_number(str(form.get("canary", ""))) if wants_canary else None
    if wants_canary and not canary:
        return page(request, "sorry.html.j2", status=400, sentence=texts_of(request)("canary_is_needed"))
    try:
        uploads.send(services, token, who=person_of(request).name, canary=canary)
        found = uploads.find(services, token)
    except LedgerError as error:
        sentence = error.sentence.in_language(texts_of(request).lang)
        return page(request, "sorry.html.j2", status=HTTPStatus.CONFLICT, sentence=sentence)
    if found.batch_id is not None:
        return back_to(request, f"/batches/{found.batch_id}", "accepted")
    return RedirectResponse(f"/upload/{token}", HTTPStatus.SEE_OTHER)


@needs(Role.OPERATOR)
def discard(request: Request, _form: FormData) -> Response:
    """Remove an upload that is not to be sent."""
    uploads.discard(services_of(request), request.path_params["token"])
    return back_to(request, "/upload", "discarded")


_AT = "/upload/{token}"
ROUTES = [
    Route("/upload", form, methods=["GET"]),
    Route("/upload", upload, methods=["POST"]),
    Route(_AT, one),
    Route(f"{_AT}/send", send, methods=["POST"]),
    Route(f"{_AT}/discard", discard, methods=["POST"]),
]

"""What needs a person over all batches, by what one action solves; rows can be set aside with a reason."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.errors import LedgerError
from tasks.operations.open_work import dismiss as dismiss_rows
from tasks.operations.open_work import take_back_dismissals
from worker.console.page_texts import back_to, page, person_of, services_of, texts_of, whole_number
from worker.console.pages.tonight import open_groups
from worker.console.people import Role, needs


def open_work(request: Request) -> Response:
    """List open work."""
    groups = open_groups(request)
    return page(request, "open_work.html.j2", groups=groups, open_rows=sum(group.rows for group in groups))


@needs(Role.OPERATOR)
def dismiss(request: Request, form: FormData) -> Response:
    """Set a row aside; a reason must be given."""
    batch_id, line, reason = _row(form)
    if not reason:
        return _sorry(request, texts_of(request)("reason_is_needed"))
    try:
        dismiss_rows(services_of(request), batch_id, [line], reason, who=person_of(request).name)
    except LedgerError as error:
        return _sorry(request, error.sentence.in_language(texts_of(request).lang))
    return back_to(request, f"/batches/{batch_id}/lines/{line}", "dismissed")


@needs(Role.OPERATOR)
def take_back(request: Request, form: FormData) -> Response:
    """Let a row need a person again."""
    batch_id, line, _ = _row(form)
    try:
        take_back_dismissals(services_of(request), batch_id, [line], who=person_of(request).name)
    except LedgerError as error:
        return _sorry(request, error.sentence.in_language(texts_of(request).lang))
    return back_to(request, f"/batches/{batch_id}/lines/{line}", "taken_back")


def _row(form: FormData) -> tuple[int, int, str]:
    numbers = [whole_number(str(form.get(name, ""))) for name in ("batch", "line")]
    return numbers[0], numbers[1], str(form.get("reason", "")).strip()[:500]


def _sorry(request: Request, sentence: str) -> Response:
    return page(request, "sorry.html.j2", status=HTTPStatus.CONFLICT, sentence=sentence)


ROUTES = [
    Route("/open", open_work),
    Route("/open/dismiss", dismiss, methods=["POST"]),
    Route("/open/take-back", take_back, methods=["POST"]),
]

"""One batch: its counts, its causes, its pace, its history, and what may be done with it."""

from __future__ import annotations

import functools
from http import HTTPStatus

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from tasks.errors import LedgerError
from tasks.models import BatchState
from tasks.operations import batch_pace, review_batch
from tasks.operations.access_history import record_download
from tasks.operations.approve import approve as approve_batch
from tasks.operations.cancel import cancel as cancel_batch
from tasks.operations.four_eyes import stopped_by_program
from tasks.operations.pause import pause as pause_batch
from tasks.operations.report import report
from tasks.operations.resume import NewOrders
from tasks.operations.resume import resume as resume_batch
from tasks.operations.retry import retry as retry_batch
from tasks.operations.review_batch import written_reports
from tasks.reports.html_report import timeline_in_words
from tasks.reports.latency_chart import bars, percentiles
from tasks.reports.report_data import FileWarning
from tasks.reports.run_facts import warnings_in_words
from tasks.reports.timeline_chart import timeline
from tasks.services import Services
from worker.console.long_deeds import Key
from worker.console.page_texts import back_to, kept_of, long_deeds_of, page, person_of, services_of, texts_of
from worker.console.pages.batch_lines import forecast_in_words, headline_of, line_of, status_of
from worker.console.pages.row_words import batch_history_in_words
from worker.console.pages.tonight import open_groups
from worker.console.people import Deed, Role, needs, require
from worker.failures import failure_of

#: Seconds between two refreshments of a batch that moves.
_EVERY_SECONDS = 3
_MOVING = (BatchState.RUNNING, BatchState.READING)
_KINDS = {".csv": "text/csv; charset=utf-8", ".html": "text/html; charset=utf-8", ".json": "application/json"}
_WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def batch(request: Request) -> Response:
    """Show a batch."""
    return _batch_page(request, request.path_params["batch"])


def _batch_page(request: Request, batch_id: int, *, refused: str = "") -> Response:
    services, texts = services_of(request), texts_of(request)
    reviewed = review_batch.review(services, batch_id)
    line = line_of(request, status_of(request, reviewed.batch))
    under_way, failure = long_deeds_of(request).under_way(batch_id), long_deeds_of(request).failure(batch_id)
    moves = under_way or any(each.state in _MOVING for each in (reviewed.batch, *reviewed.children))
    warned = [FileWarning(*each) for each in reviewed.batch.warnings]
    return page(
        request,
        "batch.html.j2",
        status=HTTPStatus.CONFLICT if refused else HTTPStatus.OK,
        refused=refused,
        under_way=under_way,
        failed=failure_of(failure).message.in_language(texts.lang) if failure else "",
        reviewed=reviewed,
        batch=reviewed.batch,
        line=line,
        headline=headline_of(line.status, texts),
        forecast=forecast_in_words(line, texts),
        groups=open_groups(request, batch_id, reviewed.batch.state),
        warnings=warnings_in_words(warned, texts),
        history=batch_history_in_words(reviewed.history, texts),
        needs_approver=stopped_by_program(reviewed.batch),
        work=line.status.work,
        every=_EVERY_SECONDS if moves else 0,
    )


def pace(request: Request) -> Response:
    """Show how fast a batch was sent, and how fast elepay answered."""
    services, texts = services_of(request), texts_of(request)
    batch_id = request.path_params["batch"]
    found = kept_of(request).get(("pace", batch_id), lambda: batch_pace.pace(services, batch_id))
    run = timeline(found.points, found.requests_per_second)
    return page(
        request,
        "pace.html.j2",
        batch=found.batch,
        run=run,
        run_in_words=timeline_in_words(run, texts) if run else "",
        latency=bars(found.latencies),
        percentiles=percentiles(found.latencies),
    )


def download(request: Request) -> Response:
    """Send a report that was written; its name is one of ours and no path."""
    batch_id, name = request.path_params["batch"], request.path_params["name"]
    written = written_reports(services_of(request), batch_id)
    if name not in written or not person_of(request).may(Role.OPERATOR):
        return page(request, "sorry.html.j2", status=404, sentence=texts_of(request)("no_such_report"))
    path = written[name]
    record_download(services_of(request), batch_id, path.name, who=person_of(request).name)
    kind = _KINDS.get(path.suffix, _WORKBOOK)
    return FileResponse(path, media_type=kind, filename=f"batch-{batch_id}-{path.name}")


# ---------------------------------------------------------------------------------------------------------- deeds


def _explained(deed: Deed) -> Deed:
    """Return to the batch's page, with why, where a deed cannot be done."""

    @functools.wraps(deed)
    def explained(request: Request, form: FormData) -> Response:
        try:
            return deed(request, form)
        except LedgerError as error:
            return _lost(request, request.path_params["batch"], error)

    return explained


@needs(Role.OPERATOR)
@_explained
def pause(request: Request, _form: FormData) -> Response:
    """Pause a batch."""
    services, batch_id, who = _asked(request)
    pause_batch(services, batch_id, who=who)
    return _back(request, "paused")


@needs(Role.OPERATOR)
@_explained
def resume(request: Request, form: FormData) -> Response:
    """Let a stopped batch go on; one that the program has stopped needs an approver."""
    services, batch_id, who = _asked(request)
    if stopped_by_program(review_batch.review(services, batch_id).batch):
        require(request, Role.APPROVER)
    resume_batch(services, batch_id, NewOrders(verify_first=form.get("verify_first") == "1"), who=who)
    return _back(request, "resumed")


@needs(Role.APPROVER)
@_explained
def approve(request: Request, _form: FormData) -> Response:
    """Let the rest of a batch be sent; the first approval of two is only stored."""
    services, batch_id, who = _asked(request)
    status = approve_batch(services, batch_id, who=who)
    waits = status.batch.state is BatchState.PAUSED and status.batch.canary
    return _back(request, "approved_first" if waits else "approved")


@needs(Role.OPERATOR)
@_explained
def cancel(request: Request, _form: FormData) -> Response:
    """Give a batch up."""
    services, batch_id, who = _asked(request)
    cancel_batch(services, batch_id, who=who)
    return _back(request, "cancelled")


@needs(Role.OPERATOR)
@_explained
def retry(request: Request, _form: FormData) -> Response:
    """Try again what may pass now: unclear rows where they are, the others in a batch of their own."""
    services, batch_id, who = _asked(request)
    retried = long_deeds_of(request).do(Key(batch_id, "retry"), lambda: retry_batch(services, batch_id, who=who))
    if retried is None:
        return _back(request, "begun")
    goes_on = retried.child.id if retried.child else batch_id
    return back_to(request, f"/batches/{goes_on}", "retried", count=retried.sent_again + retried.looked_up)


@needs(Role.OPERATOR)
@_explained
def write_reports(request: Request, _form: FormData) -> Response:
    """Write the reports of a batch as it is now, in the language of whoever asks."""
    services, batch_id, _ = _asked(request)
    lang = texts_of(request).lang
    reported = long_deeds_of(request).do(Key(batch_id, "report"), lambda: report(services, batch_id, lang=lang))
    return _back(request, "reported" if reported else "begun")


def _asked(request: Request) -> tuple[Services, int, str]:
    """Return what a deed needs: services, the batch, and who asks."""
    return services_of(request), request.path_params["batch"], person_of(request).name


def _back(request: Request, said: str) -> Response:
    return back_to(request, f"/batches/{request.path_params['batch']}", said)


def _lost(request: Request, batch_id: int, error: LedgerError) -> Response:
    """Show the batch as it is now, why nothing was done, and what somebody did before."""
    kept_of(request).forget()
    return _batch_page(request, batch_id, refused=error.sentence.in_language(texts_of(request).lang))


_AT = "/batches/{batch:int}"
ROUTES = [
    Route(_AT, batch),
    Route(f"{_AT}/pace", pace),
    Route(f"{_AT}/reports/{{name}}", download),
    *(
        Route(f"{_AT}/{name}", deed, methods=["POST"])
        for name, deed in {
            "pause": pause,
            "resume": resume,
            "approve": approve,
            "cancel": cancel,
            "retry": retry,
            "report": write_reports,
        }.items()
    ),
]

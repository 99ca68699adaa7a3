"""Unclear rows beside what elepay has of them now: created, absent or given up, one at a time or several at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.error_texts import Said, Sentence
from tasks.errors import LedgerError
from tasks.models import Reason
from tasks.operations.evidence import ListedSources, evidence, last_decision, listed_now
from tasks.operations.resolve import (
    UnclearRow,
    count_unclear,
    give_up,
    list_unclear,
    resolve_as_absent,
    resolve_as_created,
)
from tasks.reason_texts import sentence
from worker.console.looks import note_looks
from worker.console.page_texts import back_to, kept_of, page, person_of, services_of, texts_of, whole_number
from worker.console.pages.row_words import history_in_words
from worker.console.people import Role, needs, require

#: Rows of a page: elepay is asked about each of them.
ROWS_PER_PAGE = 10
_ASKED_AT_ONCE = 5
CREATED, ABSENT, GIVE_UP = "created", "absent", "give-up"


class Key(NamedTuple):
    """A row as the form names it."""

    batch_id: int
    line: int

    def __str__(self) -> str:
        return f"{self.batch_id}:{self.line}"

    @classmethod
    def read(cls, text: str) -> Key:
        """Return what a form or a link says; line 0 is no row's."""
        return cls(*_two_numbers(text))


class DoubtLine(NamedTuple):
    """An unclear row of the list."""

    key: Key
    row: UnclearRow
    why: str
    listed: ListedSources | None
    error: str  #: why elepay was not asked about it

    @property
    def own_source(self) -> str:
        """The source that surely is the row's, if there is exactly one."""
        own = self.listed.with_reference(self.row.reference) if self.listed else ()
        return own[0].id if len(own) == 1 else ""


class Refusal(NamedTuple):
    """A row about which nothing was decided now."""

    key: Key
    why: str
    before: dict[str, object] | None  #: what somebody did to it before


def unclear(request: Request) -> Response:
    """List unclear rows that wait for a person, with what elepay has of each now."""
    given, services = request.query_params, services_of(request)
    batch_id, after = whole_number(given.get("batch")) or None, _two_numbers(given.get("after", ""))
    found = list_unclear(services, batch_id, limit=ROWS_PER_PAGE + 1, after=after)
    shown = found[:ROWS_PER_PAGE]
    waiting = kept_of(request).get(("unclear", batch_id), lambda: count_unclear(services, batch_id))
    lines = _lines(request, shown)
    note_looks(request, [(row.batch_id, row.record) for row in shown])
    return page(
        request,
        "decide.html.j2",
        batch_id=batch_id,
        lines=lines,
        waiting=waiting,
        after=f"{shown[-1].batch_id}:{shown[-1].record}" if len(found) > len(shown) else "",
    )


def _two_numbers(text: str) -> tuple[int, int]:
    first, _, second = text.partition(":")
    return whole_number(first), whole_number(second)


def _lines(request: Request, rows: Sequence[UnclearRow]) -> list[DoubtLine]:
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(lambda row: _line(request, row), rows))


def _line(request: Request, row: UnclearRow) -> DoubtLine:
    texts = texts_of(request)
    found, error = None, ""
    try:
        found = listed_now(services_of(request), row)
    except LedgerError as failure:
        error = failure.sentence.in_language(texts.lang)
    why = sentence(Reason(row.code or "lost_answer"), texts.lang)
    return DoubtLine(Key(row.batch_id, row.line), row, why, found, error)


def one(request: Request) -> Response:
    """Show an unclear row with all that is known of it."""
    return _one(request, Key(request.path_params["batch"], request.path_params["line"]))


def _one(request: Request, key: Key) -> Response:
    found = evidence(services_of(request), *key)
    note_looks(request, [(key.batch_id, found.shown.row.record)])
    return page(
        request,
        "decide_one.html.j2",
        key=key,
        evidence=found,
        row=found.shown.row,
        why=sentence(Reason(found.shown.row.code or "lost_answer"), texts_of(request).lang),
        history=history_in_words(found.shown.history, texts_of(request)),
    )


# ---------------------------------------------------------------------------------------------------------- deeds


@needs(Role.OPERATOR)
def decide(request: Request, form: FormData) -> Response:
    """Take one decision about every marked row; each row is decided, or left as it is, by itself."""
    decision, reason = str(form.get("decision", "")), str(form.get("reason", "")).strip()[:500]
    keys = _keys(form)
    if problem := _problem(keys, decision, reason):
        return _sorry(request, texts_of(request)(problem))
    if decision == ABSENT:
        require(request, Role.APPROVER)
    refused = [
        refusal
        for key in keys
        if (refusal := _decide(request, key, decision, reason, str(form.get(f"source-{key}", "")).strip()))
    ]
    decided = len(keys) - len(refused)
    kept_of(request).forget()
    if refused:
        return page(request, "decided.html.j2", status=HTTPStatus.CONFLICT, refused=refused, decided=decided)
    batch = whole_number(str(form.get("batch", "")))
    return back_to(request, "/decide", "decided", count=decided, **({"batch": batch} if batch else {}))


def _keys(form: FormData) -> list[Key]:
    """Return the rows that are marked, each once: one by one, or all of a page."""
    marked = ",".join(map(str, form.getlist("row"))).split(",")
    return list(dict.fromkeys(key for each in marked if (key := Key.read(each)).line))


def _problem(keys: Sequence[Key], decision: str, reason: str) -> str:
    """Return the text that says what is missing, or nothing."""
    if not keys:
        return "no_row_marked"
    if decision not in (CREATED, ABSENT, GIVE_UP):
        return "no_decision"
    return "reason_is_needed" if decision == ABSENT and not reason else ""


def _decide(request: Request, key: Key, decision: str, reason: str, source_id: str) -> Refusal | None:
    services, who = services_of(request), person_of(request).name
    try:
        if decision == CREATED:
            if not source_id:
                return _refusal(request, key, Sentence("no source was given for this row"))
            resolve_as_created(services, *key, source_id, who=who)
        elif decision == ABSENT:
            resolve_as_absent(services, *key, who=who, reason=reason)
        else:
            give_up(services, *key, who=who, reason=reason)
    except LedgerError as error:
        return _refusal(request, key, error.sentence)
    return None


def _refusal(request: Request, key: Key, why: Said) -> Refusal:
    texts = texts_of(request)
    before = last_decision(services_of(request), *key)
    said = history_in_words([before], texts)[0] if before else None
    return Refusal(key, why.in_language(texts.lang), said)


def _sorry(request: Request, sentence: str) -> Response:
    return page(request, "sorry.html.j2", status=HTTPStatus.BAD_REQUEST, sentence=sentence)


ROUTES = [
    Route("/decide", unclear, methods=["GET"]),
    Route("/decide", decide, methods=["POST"]),
    Route("/decide/{batch:int}/{line:int}", one),
]

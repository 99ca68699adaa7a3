"""Rows of a batch page by page, and one row with everything that happened to it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.models import ReportRow, RowState
from tasks.operations import browse
from tasks.operations.record_cells import RecordCells, record_cells
from tasks.operations.show_row import show_row
from tasks.reports.i18n import Texts
from worker.console.looks import note_looks
from worker.console.page_texts import page, services_of, texts_of, whole_number
from worker.console.pages.batch_lines import COUNTED, counted
from worker.console.pages.row_words import Cell, cells_in_order, history_in_words, reasons_in_words


class Asked(NamedTuple):
    """Which rows somebody has asked for."""

    state: str
    code: str
    column: str
    open: str  #: "1": only rows that still need a person

    def query(self, **other: object) -> str:
        """Return the same for a link, with other values."""
        return urlencode({name: value for name, value in {**self._asdict(), **other}.items() if value})


def rows(request: Request) -> Response:
    """List rows of a batch."""
    services, texts = services_of(request), texts_of(request)
    batch_id, asked = request.path_params["batch"], _asked(request)
    wanted = browse.RowFilter(asked.state, asked.code, asked.column, asked.open == "1")
    found = browse.rows(services, batch_id, wanted, whole_number(request.query_params.get("after")))
    cells = record_cells(services, batch_id, [each.row.line for each in found.rows if _shows_cells(each)])
    note_looks(request, [(batch_id, each.row.record) for each in found.rows])
    return page(
        request,
        "rows.html.j2",
        batch=found.batch,
        asked=asked,
        after=found.after,
        states=COUNTED,
        counts=counted(request, found.batch).counts,
        lines=[(each, reasons_in_words(each.row, texts, None), _cells(cells, each.row, texts)) for each in found.rows],
    )


def _asked(request: Request) -> Asked:
    given = request.query_params
    state = given.get("state", "")
    return Asked(
        state if state in COUNTED else "",
        given.get("code", "")[:64],
        given.get("column", "")[:256],
        "1" if given.get("open") == "1" else "",
    )


def _shows_cells(listed: browse.ListedRow) -> bool:
    return listed.row.state == RowState.INVALID


def _cells(cells: RecordCells, row: ReportRow, texts: Texts) -> list[Cell]:
    return cells_in_order(cells.titles, cells.cells.get(row.line, ()), row, texts)


def row(request: Request) -> Response:
    """Show a row and its history."""
    services, texts = services_of(request), texts_of(request)
    batch_id, line = request.path_params["batch"], request.path_params["line"]
    shown = show_row(services, batch_id, line)
    cells = record_cells(services, batch_id, [shown.row.line])
    note_looks(request, [(batch_id, shown.row.record)])
    return page(
        request,
        "row.html.j2",
        batch_id=batch_id,
        shown=shown,
        row=shown.row,
        reasons=reasons_in_words(shown.row, texts, shown.situation),
        cells=_cells(cells, shown.row, texts),
        history=history_in_words(shown.history, texts),
        is_dismissed=_is_dismissed([str(line["what"]) for line in shown.history]),
        is_decided_here=shown.row.needs_person and shown.row.code != "given_up",
    )


def _is_dismissed(history: list[str]) -> bool:
    """Return whether somebody has set a row aside, and nobody has taken that back."""
    said = [what for what in history if what.startswith("dismiss")]
    return bool(said) and said[-1].startswith("dismissed: ")


_ROWS, _ROW = "/batches/{batch:int}/rows", "/batches/{batch:int}/lines/{line:int}"
ROUTES = [Route(_ROWS, rows), Route(_ROW, row)]

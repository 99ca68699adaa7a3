"""Writes down who sees personal data: only those to whom it is shown, each row each time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from starlette.requests import Request

from tasks.operations.access_history import record_looks
from worker.console.page_texts import person_of, sees_personal_data, services_of


def note_looks(request: Request, rows: Iterable[tuple[int, int]]) -> None:
    """Write down that whoever asks sees rows, each as batch and record, unless they see them masked."""
    if not sees_personal_data(request):
        return
    for batch_id, keys in groupby(sorted(rows), lambda key: key[0]):
        record_looks(services_of(request), batch_id, [record for _, record in keys], who=person_of(request).name)

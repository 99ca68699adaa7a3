"""Writes down who sees personal data: only those whose role shows it, each row each time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from starlette.requests import Request

from tasks.operations.access_history import record_looks
from worker.console.page_texts import person_of, services_of
from worker.console.people import Role


def note_looks(request: Request, rows: Iterable[tuple[int, int]]) -> None:
    """Write down that whoever asks sees rows, each as batch and record; viewers see them masked."""
    person = person_of(request)
    if not person.may(Role.OPERATOR):
        return
    for batch_id, keys in groupby(sorted(rows), lambda key: key[0]):
        record_looks(services_of(request), batch_id, [record for _, record in keys], who=person.name)

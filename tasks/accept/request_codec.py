"""The request of a row as compact JSON: description, extra and metadata, the empty ones left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from tasks.models import compact_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tasks.accept.columns import Column

_GROUPS = {"description": "d", "extra": "e", "metadata": "m"}
#: More patterns of empty cells than this in one chunk, or more columns than bits: row by row.
_MOST_PATTERNS = 64
_MOST_BITS = 62


class Parts(NamedTuple):
    """What `decode_request` returns."""

    description: str | None
    extra: dict[str, str]
    metadata: dict[str, str]


def request_of(description: str | None, extra: Mapping[str, str], metadata: Mapping[str, str]) -> bytes:
    """Return the JSON that `NewRow.request` holds; its keys are sorted, so that equal requests are equal bytes."""
    request: dict[str, object] = {}
    if description:
        request["d"] = description
    for name, values in (("e", extra), ("m", metadata)):
        if kept := {key: values[key] for key in sorted(values) if values[key]}:
            request[name] = kept
    return compact_json(request)


def decode_request(request: bytes) -> Parts:
    """Return what `request_of` encoded."""
    found = orjson.loads(request)
    return Parts(found.get("d"), found.get("e", {}), found.get("m", {}))


def content_of(request: bytes) -> bytes:
    """Return the 8 bytes that are equal when two rows of one identity ask for the same."""
    return hashlib.blake2b(request, digest_size=8).digest()


def compose_requests(frame: pd.DataFrame, columns: Sequence[Column]) -> list[bytes]:
    """Return `request_of` of every row of `frame`, a pattern of empty cells at a time.

    Each column is encoded by one call; rows with the same cells empty share one template.
    """
    import numpy as np

    used = sorted((column for column in columns if column.part in _GROUPS), key=lambda column: column.target)
    if not used or not len(frame):
        return [b"{}"] * len(frame)
    empty = np.column_stack([(frame[column.at] == "").to_numpy() for column in used])
    if len(used) > _MOST_BITS:
        return _row_by_row(frame, used)
    patterns, group = np.unique(empty @ (1 << np.arange(len(used))), return_inverse=True)
    if len(patterns) > _MOST_PATTERNS:
        return _row_by_row(frame, used)
    encoded = [_encode_column(frame[column.at].tolist()) for column in used]
    requests = [b""] * len(frame)
    for number in range(len(patterns)):
        rows = np.flatnonzero(group == number)
        _fill(requests, rows, encoded, empty[rows[0]].tolist(), used)
    return requests


def _fill(
    requests: list[bytes], rows: np.ndarray, encoded: list[list[bytes]], empty: list[bool], used: Sequence[Column]
) -> None:
    kept = [at for at, is_empty in enumerate(empty) if not is_empty]
    template = _template([used[at] for at in kept])
    if len(rows) == len(requests):
        values = zip(*(encoded[at] for at in kept), strict=True) if kept else iter([()] * len(rows))
        requests[:] = [template % cells for cells in values]
        return
    for row in rows.tolist():
        requests[row] = template % tuple([encoded[at][row] for at in kept])


def _template(columns: Sequence[Column]) -> bytes:
    """Return the JSON of a row with `%b` for each value, in the order of `columns` (sorted by target)."""
    groups: dict[str, list[bytes]] = {}
    for column in columns:
        key = orjson.dumps(column.key).replace(b"%", b"%%") + b":" if column.key else b""
        groups.setdefault(_GROUPS[column.part], []).append(key + b"%b")
    parts = []
    for name, cells in groups.items():
        inner = cells[0] if name == "d" else b"{" + b",".join(cells) + b"}"
        parts.append(b'"%b":%b' % (name.encode(), inner))
    return b"{" + b",".join(parts) + b"}"


def _encode_column(values: list[str]) -> list[bytes]:
    """Return each value as JSON; indented output has one value a line, and a value never holds a bare line end."""
    return orjson.dumps(values, option=orjson.OPT_INDENT_2)[4:-2].split(b",\n  ")


def _row_by_row(frame: pd.DataFrame, used: Sequence[Column]) -> list[bytes]:
    requests = []
    for cells in zip(*(frame[column.at].tolist() for column in used), strict=True):
        parts: dict[str, dict[str, str]] = {"description": {}, "extra": {}, "metadata": {}}
        for column, value in zip(used, cells, strict=True):
            parts[column.part][column.key] = value
        requests.append(request_of(parts["description"].get(""), parts["extra"], parts["metadata"]))
    return requests

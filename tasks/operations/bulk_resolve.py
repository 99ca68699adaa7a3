"""Many unclear rows decided at once: written to a file, filled in by a person, each checked like a single one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks.csv_records import FileFormat, detect_format, read_records
from tasks.errors import LedgerError, OnboardingError, UnusableFile
from tasks.models import Reason
from tasks.operations.resolve import give_up, list_unclear, resolve_as_absent, resolve_as_created
from tasks.reason_texts import hint, sentence
from tasks.reports.i18n import Texts
from tasks.reports.lists import write_list
from tasks.services import Services

#: Titles of the file; a person fills in `decision`, and `source_id` of a row that is `created`.
COLUMNS = ("batch", "line", "customer_id", "payment_method", "reference", "sent_at", "why", "decision", "source_id")
CREATED, ABSENT, GIVE_UP = "created", "absent", "give-up"
DECISIONS = (CREATED, ABSENT, GIVE_UP)
_NEEDED = ("batch", "line", "decision", "source_id")


class Decision(NamedTuple):
    """What a person decided about a row."""

    line_of_file: int  #: where it stands in the file of decisions
    batch_id: int
    line: int
    decision: str
    source_id: str


class Decided(NamedTuple):
    """What became of a decision."""

    decision: Decision
    error: OnboardingError | None  #: why it was not taken


@dataclass(frozen=True, slots=True)
class DecidedFile:
    """What became of a file of decisions."""

    decided: tuple[Decided, ...]
    undecided: int  #: lines without a decision


def write_unclear(services: Services, batch_id: int | None, path: Path, *, lang: str | None = None) -> int:
    """Write the unclear rows that wait for a person, of one batch or of all; return how many. Raises LedgerError."""
    if path.exists():
        raise LedgerError("{file} is there already, and may have been edited: give another name", file=path)
    texts = Texts(lang or services.settings.lang, services.settings.time_zone)
    rows = list_unclear(services, batch_id, limit=None)
    return write_list(
        path,
        COLUMNS,
        (
            (
                row.batch_id,
                row.line,
                row.customer_id,
                row.payment_method,
                row.reference,
                texts.time(row.sent_at) if row.sent_at else "",
                sentence(Reason(row.code), texts.lang),
                "",
                "",
            )
            for row in rows
        ),
    )


def resolve_from(
    services: Services,
    path: Path,
    *,
    who: str,
    progress: Callable[[Decided], None] = lambda _decided: None,
    stopping: Callable[[], bool] = lambda: False,
) -> DecidedFile:
    """Take the decisions of a file that `write_unclear` wrote and somebody filled in, line by line.

    A decision that cannot be taken leaves its row as it was, and the others are taken all the same; after `stopping`
    nothing more is. The same file again repeats nothing. Raises UnusableFile, with nothing decided, if the file cannot
    be read or a decision cannot be understood.
    """
    decisions, undecided = _read(path, services.settings.encodings)
    decided = []
    for decision in decisions:
        if stopping():
            break
        decided.append(Decided(decision, _take(services, decision, who)))
        progress(decided[-1])
    return DecidedFile(tuple(decided), undecided)


def _take(services: Services, decision: Decision, who: str) -> OnboardingError | None:
    batch_id, line = decision.batch_id, decision.line
    try:
        if decision.decision == CREATED:
            resolve_as_created(services, batch_id, line, decision.source_id, who=who)
        elif decision.decision == ABSENT:
            resolve_as_absent(services, batch_id, line, who=who)
        else:
            give_up(services, batch_id, line, who=who)
    except LedgerError as error:
        return error
    return None


def _read(path: Path, encodings: tuple[str, ...]) -> tuple[list[Decision], int]:
    """Return the decisions of a file, and how many lines have none. Raises UnusableFile."""
    fmt = detect_format(path, encodings)
    places = _places(fmt)
    decisions, undecided = [], 0
    seen: dict[tuple[int, int], int] = {}
    for record in read_records(path, fmt):
        cells = {name: "".join(record.fields[at : at + 1]).strip() for name, at in places.items()}
        if not cells["decision"] and not cells["source_id"]:
            undecided += 1
            continue
        decision = _decision(record.line, cells)
        key = decision.batch_id, decision.line
        if key in seen:
            raise _misunderstood("decision_repeated", record.line, detail=str(seen[key]))
        seen[key] = record.line
        decisions.append(decision)
    return decisions, undecided


def _places(fmt: FileFormat) -> Mapping[str, int]:
    titles = [title.strip().casefold() for title in fmt.header]
    missing = [name for name in _NEEDED if name not in titles]
    if missing:
        raise UnusableFile(
            "no_decisions",
            sentence(Reason("no_decisions", ", ".join(missing))),
            line=fmt.header_line,
            column=", ".join(missing),
            hint=hint("no_decisions"),
        )
    return {name: titles.index(name) for name in _NEEDED}


def _decision(line: int, cells: Mapping[str, str]) -> Decision:
    word = cells["decision"].casefold().replace("_", "-").replace(" ", "-")
    if word not in DECISIONS:
        raise _misunderstood("decision_unknown", line, value=cells["decision"][:40], detail=", ".join(DECISIONS))
    if (word == CREATED) != bool(cells["source_id"]):
        raise _misunderstood("decision_source", line)
    numbers = [cells["batch"], cells["line"]]
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        raise _misunderstood("decision_row", line)
    return Decision(line, int(cells["batch"]), int(cells["line"]), word, cells["source_id"])


def _misunderstood(code: str, line: int, *, value: str = "", detail: str = "") -> UnusableFile:
    reason = Reason(code, "", value, detail)
    return UnusableFile(code, sentence(reason), line=line, value=value, detail=detail, hint=hint(reason))

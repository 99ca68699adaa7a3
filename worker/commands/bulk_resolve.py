"""`onboard resolve --csv FILE`, `--from FILE`: many unclear rows decided at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.operations import bulk_resolve
from tasks.operations.bulk_resolve import Decided
from tasks.services import Services
from worker.interrupts import STOPPED, Interrupts
from worker.operator_identity import who
from worker.screen import Screen


def write_unclear(
    services: Services, batch_id: int | None, screen: Screen, *, path: Path
) -> tuple[int, dict[str, Any]]:
    """Write the rows that wait for a person to a file in which decisions are filled in; 1 if there are any."""
    count = bulk_resolve.write_unclear(services, batch_id, path, lang=screen.texts.lang)
    screen.say("decisions_to_fill_in", file=path, count=count, decisions=", ".join(bulk_resolve.DECISIONS))
    return (1 if count else 0), {"unclear": count, "file": str(path)}


def resolve_from(services: Services, screen: Screen, *, path: Path) -> tuple[int, dict[str, Any]]:
    """Take the decisions of a file, a result per line; 1 if one could not be taken, 3 after Ctrl-C."""
    with Interrupts() as interrupts, interrupts.counted():
        done = bulk_resolve.resolve_from(
            services,
            path,
            who=who(),
            progress=lambda decided: _print(screen, decided),
            stopping=lambda: interrupts.any_came,
        )
        stopped = interrupts.any_came
    failed = sum(each.error is not None for each in done.decided)
    screen.say("decisions_taken", style="bold", count=len(done.decided) - failed)
    if failed:
        screen.say("decisions_failed", style="red", count=failed)
    if done.undecided:
        screen.say("decisions_open", count=done.undecided)
    code = STOPPED if stopped else 1 if failed else 0
    return code, {
        "taken": len(done.decided) - failed,
        "failed": failed,
        "undecided": done.undecided,
        "results": [_json(each, screen.texts.lang) for each in done.decided],
    }


def _print(screen: Screen, decided: Decided) -> None:
    decision, error = decided
    values: dict[str, Any] = {"line": str(decision.line), "batch": decision.batch_id, "decision": decision.decision}
    if error is None:
        screen.say("decision_taken", **values)
    else:
        screen.say("decision_failed", style="red", why=error, **values)


def _json(decided: Decided, lang: str) -> dict[str, Any]:
    decision, error = decided
    return {
        "line_of_file": decision.line_of_file,
        "batch": decision.batch_id,
        "line": decision.line,
        "decision": decision.decision,
        "error": None if error is None else error.in_language(lang),
    }

"""Every English template of a sentence with which the program may end, as the code has it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What takes a template as its first argument.
TAKERS = frozenset(
    {
        "BadValue",
        "LedgerError",
        "LedgerReplaced",
        "OnboardingError",
        "RateLimitUnavailable",
        "SecondPersonNeeded",
        "Sentence",
        "SettingsError",
        "UnwritableValue",
    }
)


def templates() -> Iterator[tuple[str, str]]:
    """Yield place and template."""
    for call, place in calls():
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
            yield place, call.args[0].value


def bare_texts() -> Iterator[str]:
    """Yield the places where one of them, or `fail`, is given a text that is built at that place: it has no key."""
    for call, place in calls("fail"):
        first = call.args[0] if call.args else None
        is_text = isinstance(first, ast.Constant) and getattr(call.func, "id", "") == "fail"
        if is_text or isinstance(first, ast.JoinedStr | ast.BinOp):
            yield place


def calls(*more: str) -> Iterator[tuple[ast.Call, str]]:
    """Yield every call of what takes a template, and where it is."""
    for path in sorted([*(ROOT / "tasks").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in (*TAKERS, *more):
                yield node, f"{path.relative_to(ROOT)}:{node.lineno}"

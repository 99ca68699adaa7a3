"""Every reason code, ours and elepay's: title, sentence and hint, English and Japanese (data: `reason_texts.toml`).

A hint is true for one row at one moment: what is to be typed next depends on the row's state and on its batch
(`Situation`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tasks.error_texts import Words
from tasks.errors import UnusableFile
from tasks.models import HOLDS_ALL, OPEN_STATES, Batch, BatchState, Reason, RowState, StopCode

#: In the order in which `reason_texts.toml` lists them.
LANGUAGES = ("en", "ja")

_ANSWERED = ("elepay answered: {title} ({code}).", "elepay の応答：{title}（{code}）。")
_NAMED_FIELD = (" It names the field {column}.", "対象の項目：{column}。")
_UNKNOWN_TITLE = ("Unknown code {code}", "不明なコード {code}")
_UNKNOWN_TEXT = ("The code {code} is not known to this version.", "コード {code} はこのバージョンでは不明です。")
_UNKNOWN_HINT = (
    "Look the code up in elepay's list of error codes, or give its support the request id of this row. {next}",
    "elepay のエラーコード一覧で確認するか、この行のリクエスト ID をサポートに伝えてください。{next}",
)
#: What stands for a number that is not known.
_ANY_BATCH = ("BATCH", "バッチ番号")
#: How the details of a row or a file name another one, in Japanese.
_PLACES_JA = (
    (r"batch (\d+) ", r"バッチ \1 の "),
    (r"batch (\d+)$", r"バッチ \1"),
    (r"record (\d+)", r"レコード \1"),
    (r"line (\d+)", r"\1 行目"),
)


#: The statuses of something in between that a request is too long for.
_TOO_LONG = frozenset({"http_413", "http_414", "http_431"})


class Situation(NamedTuple):
    """Where a row and its batch stand: what a hint has to know besides the code."""

    row: str = ""  #: `open`, `refused`, `look_up` or `undecided` (unclear); "": the hint is about no such row
    batch: str = "unnamed"  #: see `stands`; `unnamed`: no command may be named
    number: int | None = None  #: of the batch


#: How a batch that stands still goes on.
_GO_ON = {
    "stopped": "onboard resume {batch}",
    "canary": "onboard approve {batch}",
    "approval": "onboard approve {batch}",
    "forgotten": "onboard resume {batch} --verify-first",
}
_NOWHERE = Situation()


def stands(batch: Batch, *, waits_for_approval: bool = False) -> str:
    """Return how a batch stands for those who want it to go on: a key of each table `next` in `reason_texts.toml`.

    `waits_for_approval` is `Ledger.waits_for_approval`: whatever has paused it then, only `onboard approve` works.
    """
    match batch.state:
        case BatchState.PAUSED if batch.canary == HOLDS_ALL:
            return "approval"
        case BatchState.READING | BatchState.RUNNING:
            return "running"
        case BatchState.PAUSED if waits_for_approval or batch.stop_code is StopCode.CANARY:
            return "canary"
        case BatchState.PAUSED if batch.stop_code is StopCode.FORGOTTEN:
            return "forgotten"
        case BatchState.PAUSED | BatchState.HALTED | BatchState.INTERRUPTED:
            return "stopped"
        case BatchState.CANCELLED:
            return "cancelled"
    return "finished"


def go_on_command(batch_stands: str, number: int) -> str:
    """Return what lets a batch go on that stands still, or "" if nothing does."""
    return _GO_ON.get(batch_stands, "").format(batch=number)


def situation_of(state: str, *, needs_person: bool, batch_stands: str, number: int) -> Situation:
    """Return the situation of a row in a state; `needs_person`: no look-up of it is to come."""
    row = ""
    if state == RowState.REFUSED:
        row = "refused"
    elif state == RowState.UNCLEAR:
        row = "undecided" if needs_person or batch_stands in ("finished", "cancelled") else "look_up"
    elif state == RowState.SENDING:
        row = "look_up"
    elif state in OPEN_STATES or state == "open":
        row = "open"
    return Situation(row, batch_stands, number)


class Explanation(NamedTuple):
    """What is said about one code, each a text per language."""

    kind: str  #: `row`, `outcome`, `warning`, `file`, `elepay` or `unknown`
    title: Sequence[str]
    text: Sequence[str]
    hint: Sequence[str]
    more: Sequence[str] = ("", "")  #: added to the text when there is a detail
    do: str = ""  #: of elepay's codes: the key of the hint in the table `do` of `reason_texts.toml`


def title(code: str, lang: str = "en") -> str:
    """Return a few words for a code, to group by."""
    return _of(code).title[_at(lang)].replace("{code}", code)


def hint_key(code: str) -> str:
    """Return the key of the hint of a code of elepay's, which several share, or our code itself."""
    return _of(code).do or code


def sentence(reason: Reason, lang: str = "en") -> str:
    """Return one sentence about a row; it may repeat the column and the masked value of the file, nothing else."""
    return _fill(_of(reason.code), reason, lang)


def hint(reason: Reason | str, lang: str = "en", situation: Situation = _NOWHERE) -> str:
    """Return what to do about a code in the morning, true for a row in this situation."""
    code, detail = (reason, "") if isinstance(reason, str) else (reason.code, reason.detail)
    there = re.match(r"batch (\d+)", detail)
    return _hint(code, lang, situation, there[1] if there else "")


@lru_cache(maxsize=4096)
def _hint(code: str, lang: str, situation: Situation, there: str) -> str:
    at = _at(lang)
    numbers = {
        "batch": _ANY_BATCH[at] if situation.number is None else situation.number,
        "there": there or _ANY_BATCH[at],
    }
    following = _NEXT[situation.row][situation.batch] if situation.row else _NEXT["any"]["unnamed"]
    return _of(code).hint[at].format(next=following[at].format(**numbers), **numbers)


def explain_file(error: UnusableFile, lang: str = "en") -> tuple[str, str]:
    """Return sentence and hint for a file as a whole; more of each if several things are wrong with it.

    In English what the errors themselves say, which is more precise.
    """
    said = [_explain_file(each, lang) for each in (error, *error.also)]
    between = ("", " ")[lang == "en"]
    hints = dict.fromkeys(hint for _, hint in said if hint)
    return between.join(message for message, _ in said), between.join(hints)


def _explain_file(error: UnusableFile, lang: str) -> tuple[str, str]:
    reason = Reason(error.code, error.column, error.value, error.detail)
    if lang == "en":
        return str(error), error.hint or hint(reason)
    return _fill(_of(error.code), reason, lang, line=error.line), hint(reason, lang)


def _fill(found: Explanation, reason: Reason, lang: str, line: int | None = None) -> str:
    at = 0 if lang == "en" else _at(lang)
    template = found.text[at]
    if reason.detail:
        template += found.more[at]
    if found.kind == "elepay" and reason.column:
        template += _NAMED_FIELD[at]
    code, column, value, detail = reason
    if at and found.kind == "file":
        said = (Words(each).in_language(LANGUAGES[at]) for each in (column, value, detail))
        column, value, detail = (each.replace(", ", "、") for each in said)
    if at and (found.kind == "outcome" or re.fullmatch(r"batch \d+", detail)):
        for english, japanese in _PLACES_JA:
            detail = re.sub(english, japanese, detail)
    return template.format(
        title=found.title[at],
        line="?" if line is None else line,
        code=code,
        column=column,
        value=value,
        detail=detail,
    )


def _at(lang: str) -> int:
    return LANGUAGES.index(lang) if lang in LANGUAGES else 0


def _of(code: str) -> Explanation:
    if code.startswith("http_") and code not in CODES:  # the status of an answer that was not elepay's own
        group = "server_error" if code.startswith("http_5") else "http_status"
        return CODES["request_too_long" if code in _TOO_LONG else group]
    return CODES.get(code) or Explanation("unknown", _UNKNOWN_TITLE, _UNKNOWN_TEXT, _UNKNOWN_HINT)


_SOURCE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("reason_texts.toml").read_text("utf-8"))
#: What `{next}` says: row of a `Situation` -> batch of it -> text per language.
_NEXT: Mapping[str, Mapping[str, Sequence[str]]] = _SOURCE["next"]


def _read(source: Mapping[str, Any]) -> Iterator[tuple[str, Explanation]]:
    for kind in ("row", "outcome", "warning", "file"):
        for code, texts in source[kind].items():
            yield code, Explanation(kind, **texts)
    for code, texts in source["elepay"].items():
        yield (
            code,
            Explanation("elepay", (texts["en"], texts["ja"]), _ANSWERED, source["do"][texts["do"]], do=texts["do"]),
        )


#: Every code that this version can explain.
CODES: Mapping[str, Explanation] = dict(_read(_SOURCE))

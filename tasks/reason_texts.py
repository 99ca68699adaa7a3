"""Every reason code, ours and elepay's: title, sentence and hint, English and Japanese (data: `reasons.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tasks.errors import UnusableFile
from tasks.models import Reason

#: In the order in which `reasons.toml` lists them.
LANGUAGES = ("en", "ja")

_ANSWERED = ("elepay answered: {title} ({code}).", "elepay の回答: {title}（{code}）。")
_NAMED_FIELD = (" It names the field {column}.", "対象の項目: {column}。")
_UNKNOWN_TITLE = ("Unknown code {code}", "不明なコード {code}")
_UNKNOWN_TEXT = ("The code {code} is not known to this version.", "コード {code} はこのバージョンでは不明です。")
_UNKNOWN_HINT = (
    "Look the code up in elepay's list of error codes, or give its support the request id of this row.",
    "elepay のエラーコード一覧で確認するか、この行のリクエスト ID をサポートに伝えてください。",
)


#: The statuses of something in between that a request is too long for.
_TOO_LONG = frozenset({"http_413", "http_414", "http_431"})


class Explanation(NamedTuple):
    """What is said about one code, each a text per language."""

    kind: str  #: `row`, `outcome`, `warning`, `file`, `elepay` or `unknown`
    title: Sequence[str]
    text: Sequence[str]
    hint: Sequence[str]
    more: Sequence[str] = ("", "")  #: added to the text when there is a detail


def title(code: str, lang: str = "en") -> str:
    """Return a few words for a code, to group by."""
    return _of(code).title[_at(lang)].replace("{code}", code)


def sentence(reason: Reason, lang: str = "en") -> str:
    """Return one sentence about a row; it may repeat the column and the masked value of the file, nothing else."""
    return _fill(_of(reason.code), reason, lang)


@lru_cache(maxsize=1024)
def hint(code: str, lang: str = "en") -> str:
    """Return what to do about a code in the morning."""
    return _of(code).hint[_at(lang)]


def explain_file(error: UnusableFile, lang: str = "en") -> tuple[str, str]:
    """Return sentence and hint for a file as a whole.

    In English what the error itself says, which is more precise.
    """
    if lang == "en":
        return str(error), error.hint or hint(error.code)
    reason = Reason(error.code, error.column, error.value, error.detail)
    return _fill(_of(error.code), reason, lang, line=error.line), hint(error.code, lang)


def _fill(found: Explanation, reason: Reason, lang: str, line: int | None = None) -> str:
    at = 0 if lang == "en" else _at(lang)
    template = found.text[at]
    if reason.detail:
        template += found.more[at]
    if found.kind == "elepay" and reason.column:
        template += _NAMED_FIELD[at]
    code, column, value, detail = reason
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


def _read() -> Iterator[tuple[str, Explanation]]:
    source: dict[str, Any] = tomllib.loads(Path(__file__).with_name("reason_texts.toml").read_text("utf-8"))
    for kind in ("row", "outcome", "warning", "file"):
        for code, texts in source[kind].items():
            yield code, Explanation(kind, **texts)
    for code, texts in source["elepay"].items():
        yield code, Explanation("elepay", (texts["en"], texts["ja"]), _ANSWERED, source["do"][texts["do"]])


#: Every code that this version can explain.
CODES: Mapping[str, Explanation] = dict(_read())

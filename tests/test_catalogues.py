"""What people read stands in catalogues, in English and in Japanese; each text is used, and there are no others."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from documents import PYTHON, ROOT

from tasks.reports import history_texts
from tasks.reports.i18n import Texts

JAPANESE = re.compile("[぀-ヿ㐀-鿿]")
REPORTS = ROOT / "tasks" / "reports"
WORKER = ROOT / "worker"


class Catalogue(NamedTuple):
    """A file of texts, and the modules and templates that say them."""

    path: Path
    speakers: tuple[Path, ...]

    @property
    def texts(self) -> dict[str, Any]:
        """Key -> its texts."""
        return tomllib.loads(self.path.read_text("utf-8"))


_OPERATIONS = tuple((ROOT / "tasks" / "operations").glob("*.py"))
_OF_REPORTS = tuple(path for path in REPORTS.iterdir() if path.suffix in (".py", ".j2"))
_OF_WORKER = tuple(path for path in PYTHON if WORKER in path.parents)
REPORT_TEXTS = Catalogue(REPORTS / "i18n.toml", (*_OF_REPORTS, *_OPERATIONS, *_OF_WORKER))
TERMINAL_TEXTS = Catalogue(WORKER / "terminal_texts.toml", (*_OF_WORKER, *_OPERATIONS))
CONSOLE = WORKER / "console"
CONSOLE_TEXTS = Catalogue(CONSOLE / "texts.toml", tuple(p for p in CONSOLE.rglob("*") if p.suffix in (".py", ".j2")))
CATALOGUES = {"reports": REPORT_TEXTS, "terminal": TERMINAL_TEXTS, "console": CONSOLE_TEXTS}
#: Names and addresses, the same in every language.
ONE_WORD = {"column_reference", "subject_elepay", "subject_redis", "head_elepay", "news_title"}


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_text_is_there_in_both_languages(name: str) -> None:
    for key, (english, japanese) in CATALOGUES[name].texts.items():
        assert english, key
        assert not JAPANESE.search(english), key
        names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, japanese)]
        assert names[1] <= names[0], key
        assert names[0] == names[1] or key.endswith("_one"), key
        if re.search("[a-z]{3}", re.sub(r"\{\w+\}", "", english)) and key not in ONE_WORD:
            assert JAPANESE.search(japanese), key


@pytest.mark.parametrize("name", CATALOGUES)
def test_japanese_is_written_as_japanese(name: str) -> None:
    """Full-width signs beside Japanese, no blank after 、 and 。, no sentence of English words."""
    for key, (_, japanese) in CATALOGUES[name].texts.items():
        assert not re.search(r"[ぁ-んァ-ヶ一-龠][,;:!?(]|[,;:!?)][ぁ-んァ-ヶ一-龠]", japanese), key
        assert not re.search(r"[、。：（）] ", japanese), key
        bare = re.sub(r"`[^`]*`|onboard( [a-z-]+)+|--[a-z-]+( \w+)?|\S*[./_=]\S*", "", japanese)
        assert not re.search(r"[a-z]{2,} [a-z]{2,}", re.sub(r"\{\w+\}", "", bare)), key


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_text_is_said_by_somebody(name: str) -> None:
    source = "".join(path.read_text("utf-8") for path in CATALOGUES[name].speakers)
    words = set(re.findall(r"""["']([a-z_0-9A-Z]+)["']""", source))
    beginnings = {start for start in re.findall(r"""f?["']([a-z_]+_)(?:\{|["'] ~)""", source) if start}
    for key in CATALOGUES[name].texts:
        plain = key.removesuffix("_one")
        assert plain in words or any(plain.startswith(start) for start in beginnings), f"nobody says {key}"


def test_every_text_that_is_said_exists() -> None:
    """Keys given to `t`, `texts` and `say` as they stand; those that are put together are met by running commands."""
    keys, both = set(REPORT_TEXTS.texts), set(REPORT_TEXTS.texts) | set(TERMINAL_TEXTS.texts)
    said = re.compile(r"""(?:\bt|texts|_texts|\bsay|announce)\(\s*["']([a-z_0-9]+)["'][,)]""")
    for path in {*REPORT_TEXTS.speakers, *TERMINAL_TEXTS.speakers, *CONSOLE_TEXTS.speakers}:
        used = set(said.findall(path.read_text("utf-8")))
        more = set(CONSOLE_TEXTS.texts) if CONSOLE in path.parents else set()
        assert used <= (both if WORKER in path.parents else keys) | more, path


@pytest.mark.parametrize("further", [TERMINAL_TEXTS, CONSOLE_TEXTS], ids=["terminal", "console"])
def test_no_key_stands_in_both_catalogues(further: Catalogue) -> None:
    assert set(REPORT_TEXTS.texts) & set(further.texts) == set()


@pytest.mark.parametrize(
    ("prefix", "values"),
    [
        (
            "subject_",
            {"packages", "settings", "secret_key", "elepay", "redis", "ledger", "memory", "folders", "disk", "clocks"},
        ),
        ("doctor_", set()),
    ],
)
def test_every_finding_has_a_sentence(prefix: str, values: set[str]) -> None:
    found = {
        argument.value
        for path in (WORKER / "commands" / "doctor.py", ROOT / "tasks" / "operations" / "installation_checks.py")
        for call in _calls(path, "Finding")
        for argument in call.args[2 if prefix == "doctor_" else 0 :][:1]
        if isinstance(argument, ast.Constant)
    }
    found = {value.replace(" ", "_") for value in found}
    assert values <= found
    assert {f"{prefix}{value}" for value in found} <= set(TERMINAL_TEXTS.texts)


# ------------------------------------------------------------------------------------------------ nothing beside them

#: Its texts are not in the catalogue so far.
_NOT_YET = {"check.py"}
_SHOWN_BY = {"print", "Text", "add_row", "assemble", "echo"}
_SCREENS = [
    path
    for path in _OF_WORKER
    if path.name in ("terminal.py", "progress.py", "batch_wait.py", "command_runtime.py", "screen.py")
    or (path.parent.name == "commands" and path.name not in _NOT_YET)
    or path == WORKER / "watcher" / "command.py"
]


def _calls(path: Path, *names: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
            yield node


def _literals(call: ast.Call) -> Iterator[str]:
    styles = {node.value for node in ast.walk(call) if isinstance(node, ast.keyword) and node.arg == "style"}
    hidden = {inner for style in styles for inner in ast.walk(style)}
    for argument in call.args:
        for node in ast.walk(argument):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in hidden:
                yield node.value


@pytest.mark.parametrize("path", _SCREENS, ids=lambda path: path.name)
def test_no_command_prints_words_of_its_own(path: Path) -> None:
    assert len(_SCREENS) > 15
    own = [text for call in _calls(path, *_SHOWN_BY) for text in _literals(call)]
    assert [text for text in own if re.search(r"[A-Za-z]{2,}\W+[A-Za-z]{2,}", text) and "$ onboard" not in text] == []


# -------------------------------------------------------------------------------------------------------- the history

HISTORY = tomllib.loads((REPORTS / "history_texts.toml").read_text("utf-8"))


#: Lines of the history of a row that are put together in more than one step.
_COMPOSED = [
    "resolved: created, source src_1",
    "resolved: waiting",
    "resolved: given_up",
    "resolved: waiting, because: departed",
    "resolved: given_up, because: departed",
    "dismissed: departed",
    "dismissal taken back",
    "approved",
    "is sent at any time",
    "is sent 01:00-05:00",
    "3 unclear rows are looked up again",
    "the ledger was accepted as it is, and is verified",
    "look-up failed: M005000",
    "look-up failed: M005000; a person decides",
    "the list proves nothing",
    "the list proves nothing; a person decides",
    "source is active, seen by an audit",
    "source is active, was unknown",
    "approved",
    "approved by the first of two people",
    "not allowed: approve, brought the batch",
    "not allowed: bring, no known person",
    "not allowed: approve, gave the first approval",
    "not allowed: /upload needs the role operator",
    "saw personal data",
    "downloaded results.csv",
    "signed in: password",
    "sign-in refused",
    "signed out",
    "signed out everywhere",
    "lease ended",
    "window closed",
]
#: Lines about whole batches, which `onboard show` does not show.
_OF_BATCHES = {"{}"}


def _whats() -> Iterator[str]:
    """Yield what is written into the history of a row, `src_1` for what is put in."""
    for path in (*(ROOT / "tasks" / "ledger").glob("*.py"), *(ROOT / "tasks" / "send").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "what":
                yield from _sentences(node.value)
            if isinstance(node, ast.Assign):
                yield from _assigned(node.targets[0], node.value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _assigned(one, its)
    elif getattr(target, "attr", getattr(target, "id", "")) == "what":
        yield from _sentences(value)


def _sentences(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts) if not isinstance(parts[0], ast.FormattedValue):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "src_1" for part in parts)
        case ast.IfExp(body=body, orelse=other):
            yield from _sentences(body)
            yield from _sentences(other)


WHATS = sorted({*_whats(), *_COMPOSED} - _OF_BATCHES)


@pytest.mark.parametrize("what", WHATS)
def test_the_history_of_a_row_is_said_in_japanese(what: str) -> None:
    said = history_texts.in_words(what, Texts("ja", "UTC"))
    assert JAPANESE.search(said), what
    assert not re.search(r"[a-z]{3,} [a-z]{2,}", said) or "liveMode" in what
    assert history_texts.in_words(what, Texts("en", "UTC")) == what


def test_no_line_of_the_history_is_translated_that_nobody_writes() -> None:
    assert len(WHATS) > 20
    patterns = [re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(english))) for english in HISTORY]
    unused = [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, WHATS))]
    assert unused == []

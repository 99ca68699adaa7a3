"""The documents and the program say the same: commands, settings, states, reasons, logs, reports, metrics."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator

import click
import pytest
import typer
from documents import (
    ALL_PAGES,
    API,
    ARCHITECTURE,
    AT_NIGHT,
    FILES_PAGE,
    HELP_PAGE,
    LOG_EVENTS,
    PAGES,
    PYTHON,
    README,
    REPORTS,
    ROOT,
    SIMULATOR,
    STOPPED_BATCHES,
    UNCLEAR_ROWS,
    calls,
    has_line,
)

from simulator import control
from simulator.profile import Fault, knobs, profile_names
from tasks import stop_texts
from tasks.elepay.catalogue import load_catalogue
from tasks.elepay.codes import ACTIONS, LEGACY
from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    Maintenance,
    MethodClosed,
    NotSent,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.models import BatchState, RowState, StopCode
from tasks.reason_texts import CODES
from tasks.reports.csv_reports import EXCEL_SAFE_COLUMN, OWN_COLUMNS
from tasks.reports.writing import FILES
from tasks.send import outcomes
from tasks.setting_sources import FILE_SUFFIX, SECRETS_DIR
from tasks.settings import Settings, setting_names


def test_the_pages_are_found() -> None:
    assert len(PAGES) >= 10
    assert len(PYTHON) > 60


# ---------------------------------------------------------------------------------------------------------- commands


def commands() -> dict[str, click.Command]:
    """Return every command that people can type, by its words."""
    from worker.cli import app

    found: dict[str, click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            if not getattr(child, "commands", {}) or getattr(child, "invoke_without_command", False):
                found[" ".join((*words, name))] = child
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


COMMANDS = commands()


def options_of(command: click.Command) -> set[str]:
    return {each for parameter in command.params for each in parameter.opts if each.startswith("--")}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"\bonboard {name}\b", ALL_PAGES), f"no page names `onboard {name}`"


def test_the_page_of_help_says_what_help_says() -> None:
    import help_page

    assert help_page.page() == HELP_PAGE, "run: .venv/bin/python tests/help_page.py"
    japanese = help_page.JAPANESE_PAGE.read_text("utf-8")
    assert help_page.page(japanese=True) == japanese, "run: .venv/bin/python tests/help_page.py"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_documented(name: str) -> None:
    for option in options_of(COMMANDS[name]):
        assert re.search(rf"{option}\b", ALL_PAGES), f"no page names {option} of `onboard {name}`"


def typed() -> Iterator[tuple[str, str]]:
    """Yield (page, what follows `onboard`) for everything that a page tells people to type."""
    for page, text in PAGES.items():
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.match(r"(?:\$ |[A-Z_]+=\S* +)*onboard +([a-z-].*)", line.strip()):
                    yield page, found[1].partition("#")[0]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`([^`]+)`", prose):
            if found := re.match(r"(?:[A-Z_]+=\S* +)*onboard +([a-z].*)", " ".join(span.split())):
                yield page, found[1]


def test_what_people_are_told_to_type_exists() -> None:
    for page, words in sorted(set(typed())):
        name = max((each for each in COMMANDS if re.match(rf"{each}(?![\w-])", words)), key=len, default=None)
        assert name or words == "ledger", f"{page}: there is no `onboard {words}`"
        told = {each.split("=")[0] for each in re.findall(r"--[a-z-]+", words)}
        assert told <= (options_of(COMMANDS[name]) if name else set()) | {"--help"}, f"{page}: onboard {words}"


def test_enough_of_what_is_typed_was_found() -> None:
    assert len(set(typed())) > 40


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`|^\$? ?make ([a-z]+)$", ALL_PAGES, re.MULTILINE))
    names = {one or other for one, other in named}
    assert names >= {"demo", "test", "install"}
    assert names <= targets


# ---------------------------------------------------------------------------------------------- settings, exit codes


def test_the_page_of_settings_is_the_one_that_the_code_writes() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "tests" / "settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert PAGES["docs/reference/settings.md"] == module.page(), "run: .venv/bin/python tests/settings_page.py"


def test_every_setting_is_read_by_somebody() -> None:
    code = "\n".join(path.read_text("utf-8") for path in PYTHON)
    fields = [name for name, field in Settings.model_fields.items() if field.validation_alias is not None]
    assert [name for name in fields if not re.search(rf"\.{name}\b", code)] == []


@pytest.mark.parametrize("name", sorted(setting_names()))
def test_every_setting_is_documented(name: str) -> None:
    assert has_line(PAGES["docs/reference/settings.md"], name)


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    deployed = [ROOT / "docker-compose.yml", ROOT / "Dockerfile", *(ROOT / "deploy" / "systemd").iterdir()]
    pages = [text for page, text in PAGES.items() if page != "CONTRIBUTING.md"]  # its example adds one
    texts = "\n".join([*pages, *(path.read_text("utf-8") for path in deployed)])
    named = set(re.findall(r"\b(?:ELEPAY|ONBOARD)_[A-Z0-9_]*[A-Z0-9]\b", texts))
    assert len(named) > 20
    known = setting_names()
    unknown = {name for name in named if not {name, name.removesuffix(FILE_SUFFIX)} & {*known, SECRETS_DIR}}
    assert unknown == set()


def test_every_exit_code_is_documented() -> None:
    from worker.cli import app
    from worker.cli.options import ALL_DONE, NEED_A_PERSON, STOPPED, UNUSABLE
    from worker.worker_process import STUCK

    for code in (ALL_DONE, NEED_A_PERSON, UNUSABLE, STOPPED):
        for page in (README, AT_NIGHT):
            assert re.search(rf"^\| {code} \|", page, re.MULTILINE)
        assert f"{code} " in str(app.info.epilog)
    assert re.search(rf"exits? .*\b{STUCK}\b|with {STUCK}\b", AT_NIGHT)


# ------------------------------------------------------------------------------------------------- states and reasons


@pytest.mark.parametrize("state", sorted(RowState))
def test_every_row_state_is_documented(state: RowState) -> None:
    assert has_line(UNCLEAR_ROWS, state)
    assert has_line(ARCHITECTURE, state)


@pytest.mark.parametrize("state", sorted(BatchState))
def test_every_batch_state_is_documented(state: BatchState) -> None:
    assert has_line(STOPPED_BATCHES, state)
    assert f"`{state}`" in ARCHITECTURE


@pytest.mark.parametrize("code", sorted(code for code, said in CODES.items() if said.kind != "elepay"))
def test_every_reason_code_is_documented(code: str) -> None:
    assert f"`{code}`" in FILES_PAGE


def test_every_code_of_an_unusable_file_is_documented() -> None:
    codes = {
        str(call.args[0].value)
        for path in PYTHON
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == "UnusableFile" and isinstance(call.args[0], ast.Constant)
    }
    assert len(codes) > 10
    assert {code for code in codes if not has_line(FILES_PAGE, code)} == set()


def test_every_code_of_ours_that_a_row_can_carry_has_a_sentence() -> None:
    classes = {each.__name__ for each in WORDS} | {NotSent.__name__}
    codes = {
        str(call.args[0].value)
        for path in PYTHON
        for call in calls(path)
        if isinstance(call.func, ast.Name)
        and call.func.id in classes
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert len(codes) > 5
    assert codes - set(CODES) == set()


def test_every_reason_that_a_record_is_given_has_a_sentence() -> None:
    place = {"reject": 1, "warn": 1, "Reason": 0}
    given = (
        (call, place.get(getattr(call.func, "attr", getattr(call.func, "id", ""))))
        for path in PYTHON
        for call in calls(path)
    )
    codes = [call.args[at] for call, at in given if at is not None and len(call.args) > at]
    named = {str(code.value) for code in codes if isinstance(code, ast.Constant)}
    assert len(named) > 20
    assert named - set(CODES) == set()


def test_no_page_of_files_names_a_reason_that_does_not_exist() -> None:
    section = FILES_PAGE.partition("## Reason codes")[2].partition("## Limits")[0]
    named = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    assert named <= set(CODES)


#: The word of the table in docs/reference/elepay-api.md §5.3 for each thing that is done.
WORDS: dict[type[ElepayError], str] = {
    Halted: "halt",
    MethodClosed: "close the method",
    Refused: "refuse the row",
    AlreadyThere: "look up",
    Unclear: "look up",
    Throttled: "slow the fleet down",
    Maintenance: "wait",
    TryLater: "try later",
}


@pytest.mark.parametrize("code", sorted(ACTIONS))
def test_every_code_of_elepay_is_documented_with_what_is_done(code: str) -> None:
    assert re.search(rf"^\| `{code}` \| [^|]+ \| {WORDS[ACTIONS[code]]} \|$", API, re.MULTILINE)


def test_the_old_numbers_are_documented_as_they_are_read() -> None:
    table = API.partition("### 5.4")[2].partition("\n## ")[0]
    assert dict(re.findall(r"\b(\d{5}) \| ([MSU]\d{6})\b", table)) == LEGACY


def halting() -> dict[str, str]:
    """Return every sentence with which an answer of elepay's stops a batch, up to what differs from case to case."""
    errors: list[ElepayError] = [NotSent("connection_refused"), Throttled("M005000"), Maintenance("S002000")]
    errors += [Halted(code) for code, action in ACTIONS.items() if action is Halted]
    errors += [Halted(f"http_{status}") for status in (302, 401, 403, 404, 405, 407)]
    return {error.code: re.split(r"[:(]", stop_texts.sentence(outcomes.halting(error)))[0].strip() for error in errors}


@pytest.mark.parametrize(("code", "sentence"), sorted(halting().items()))
def test_every_reason_for_a_halt_is_documented(code: str, sentence: str) -> None:
    assert len(sentence) > 15
    assert f"halted: `{sentence}" in STOPPED_BATCHES or f", `{sentence}" in STOPPED_BATCHES


def head_of(text: str) -> str:
    """Return the longest piece without a value in what stands before the first colon of a text."""
    return max(re.split(r"[:;]", re.sub(r"\{\w+\}", "\0", text))[0].split("\0"), key=len).strip()


#: Stops that are on no stopped batch: the file itself says why, or only a notification or a rehearsal has them.
ON_NO_BATCH = {StopCode.UNUSABLE, StopCode.REHEARSAL, StopCode.COMMAND_ENDED, StopCode.UNATTENDED}


@pytest.mark.parametrize("code", sorted(set(StopCode) - ON_NO_BATCH))
def test_every_reason_for_a_stop_is_documented(code: StopCode) -> None:
    texts = tomllib.loads((ROOT / "tasks" / "stop_texts.toml").read_text("utf-8"))["stop"]
    assert head_of(texts[code][0]) in STOPPED_BATCHES


# ------------------------------------------------------------------------------------------- logs, reports, simulator


def test_every_event_that_is_logged_is_documented() -> None:
    events = {
        str(call.args[0].value)
        for package in ("tasks", "worker")
        for path in (ROOT / package).rglob("*.py")
        for call in calls(path)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("debug", "info", "warning", "error", "exception")
        and ast.unparse(call.func.value) in ("log", "structlog.get_logger('onboard')")
        and isinstance(call.args[0], ast.Constant)
    }
    assert len(events) > 15
    assert {event for event in events if f"`{event}`" not in LOG_EVENTS} == set()


def test_every_column_and_file_of_the_reports_is_documented() -> None:
    assert {name for name in (*OWN_COLUMNS, EXCEL_SAFE_COLUMN) if f"`{name}`" not in REPORTS} == set()
    assert {name for name in (*FILES.values(), "manifest.json") if f"`{name}`" not in REPORTS} == set()
    listed = re.findall(r"^\| `(onboarding_\w+)` \|", REPORTS, re.MULTILINE)
    assert listed == list(OWN_COLUMNS)


def test_every_key_of_the_summary_is_documented() -> None:
    source = (ROOT / "tasks" / "reports" / "summary_json.py").read_text("utf-8")
    section = REPORTS.partition("## summary.json")[2]
    keys = {
        str(key.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert len(keys) > 30
    assert {key for key in keys if f"`{key}`" not in section} == set()


def test_every_title_of_a_column_is_documented() -> None:
    titles = tomllib.loads((ROOT / "tasks" / "accept" / "columns.toml").read_text("utf-8"))
    assert {title for each in titles.values() for title in each if title not in FILES_PAGE} == set()
    assert {name for name in load_catalogue().resources if f"`{name}`" not in FILES_PAGE} == set()
    assert {name for name in load_catalogue().source_methods if f"`{name}`" not in FILES_PAGE} == set()


def test_every_knob_profile_and_control_call_of_the_simulator_is_documented() -> None:
    assert {name for name in (*knobs(), *Fault.__dataclass_fields__) if not has_line(SIMULATOR, name)} == set()
    assert {name for name in profile_names() if not has_line(SIMULATOR, name)} == set()
    routes = set(re.findall(r"/_sim/[a-z_/{}]+", str(control.__doc__)))
    assert len(routes) >= 6
    named = SIMULATOR.replace("source_id", "id")
    assert {route for route in routes if route.rstrip("/") not in named} == set()
    statistics = re.findall(r"^    ([a-z_, ]+?)  +\S", str(control.__doc__), re.MULTILINE)
    names = {name.strip() for line in statistics for name in line.split(",")} - {""}
    assert len(names) > 12
    assert {name for name in names if f"`{name}`" not in SIMULATOR} == set()

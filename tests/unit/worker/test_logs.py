"""Log lines carry ids and codes; never a key, never the text of an exception."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from worker import logs

KEY = "sk_live_0123456789abcdef"


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield None
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_one_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    structlog.get_logger("onboard").info("batch finished", batch=3, line=7)
    (line,) = lines(capsys)
    assert (line["event"], line["batch"], line["line"], line["level"]) == ("batch finished", 3, 7, "info")


@pytest.mark.parametrize("logger", ["onboard", "celery", "urllib3"])
def test_a_key_never_leaves_whoever_wrote_it(capsys: pytest.CaptureFixture[str], logger: str) -> None:
    logs.configure()
    logging.getLogger(logger).warning("sent with %s", KEY)
    structlog.get_logger("onboard").warning("odd", why=f"Bearer {KEY}")
    said = capsys.readouterr().err
    assert "sk_live_…" in said
    assert KEY not in said


def test_an_exception_shows_its_place_and_never_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    try:
        int("Taro Yamada, taro@example.com")
    except ValueError:
        structlog.get_logger("onboard").exception("failed")
    (line,) = lines(capsys)
    assert line["error"] == "ValueError"
    assert "test_an_exception" in str(line["at"])
    assert "Taro" not in json.dumps(line)


def test_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    structlog.get_logger("onboard").info("quiet")
    assert lines(capsys) == []

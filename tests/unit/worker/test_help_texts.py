"""The help of every command in Japanese."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from error_templates import ROOT

from worker.cli import app
from worker.cli.help_texts import every_command, say_in_japanese, shown_parameters

TEXTS: dict[str, str] = tomllib.loads((ROOT / "worker" / "cli" / "help_texts.toml").read_text("utf-8"))


def root() -> Any:
    return typer.main.get_command(app)


def texts_of(command: Any) -> Iterator[str]:
    for each in every_command(command):
        yield each.help
        if each.epilog:
            yield each.epilog.partition("  ")[0]
        yield from (parameter.help for parameter in shown_parameters(each))


def test_every_text_of_the_help_has_a_translation_and_each_translation_its_text() -> None:
    assert set(texts_of(root())) == set(TEXTS)


def test_the_help_is_exchanged_throughout() -> None:
    command = root()
    say_in_japanese(command)
    assert set(texts_of(command)) == set(TEXTS.values())


def test_the_parts_of_options_stay_as_they_are() -> None:
    english, japanese = root(), root()
    say_in_japanese(japanese)
    for before, after in zip(every_command(english), every_command(japanese), strict=True):
        assert [each.opts for each in shown_parameters(before)] == [each.opts for each in shown_parameters(after)]
        assert (before.epilog or "").partition("  ")[2] == (after.epilog or "").partition("  ")[2]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_nothing_of_the_help_is_cut_off(columns: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    command = root()
    say_in_japanese(command, in_tables=True)
    for each in every_command(command):
        each.get_help(typer.Context(each, info_name="onboard"))
        shown = capsys.readouterr().out
        assert "…" not in shown, shown
        assert "オプション" in shown

"""The manual page onboard(1) is the one that the commands deserve, and groff has nothing to say against it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import man_page
import pytest
from factories import program
from help_page import commands_below, root_command

from tasks.settings import setting_names

#: With what groff sets Japanese, which has no blanks to break a line at.
PAGES = {"en": (man_page.PAGE, []), "ja": (man_page.JAPANESE_PAGE, ["-mja"])}


def rendered(page: Path, macros: list[str]) -> str:
    """Return what a terminal shows; no warning of groff is let through."""
    words = [program("groff"), "-K", "utf8", "-man", *macros, "-Tutf8", "-ww", "-P-c"]
    done = subprocess.run([*words, page], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)  # bold is a letter printed twice


@pytest.mark.parametrize("lang", PAGES)
def test_the_manual_page_says_what_help_says(lang: str) -> None:
    page = man_page.page(japanese=lang == "ja")
    assert PAGES[lang][0].read_text("utf-8") == page, "run: .venv/bin/python tests/help_page.py"


@pytest.mark.parametrize("lang", PAGES)
def test_the_manual_page_shows_every_command_with_its_options(lang: str) -> None:
    shown = rendered(*PAGES[lang])
    headings = set(re.findall(r"^   (onboard [a-z -]+)$", shown, re.MULTILINE))
    assert headings == {" ".join(words) for words, _ in commands_below(root_command())}
    options = {name for _, command in commands_below(root_command()) for each in command.params for name in each.opts}
    assert {name for name in options if name.startswith("--")} - set(re.findall(r"--[a-z-]+", shown)) == set()
    assert re.findall(r"^ +(\d+) +\S", shown.rpartition("\n終了" if lang == "ja" else "\nEXIT")[2], re.MULTILINE) == [
        *("0", "1", "2", "3", "70")
    ]


def test_the_manual_page_names_every_setting() -> None:
    shown = rendered(*PAGES["en"]).rpartition("\nENVIRONMENT")[2]
    assert set(setting_names()) - set(re.findall(r"^ +([A-Z_]+)\b", shown, re.MULTILINE)) == set()


def test_groff_would_say_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.1"
    wrong.write_text(man_page.page() + ".NONSENSE\n", "utf-8")
    with pytest.raises(AssertionError):
        rendered(wrong, [])

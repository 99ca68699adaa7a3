"""The pictures in the documents: what the command takes, on the page of its language, small, and said in words."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "pages"))
from pictures import FOLDER, LANGUAGES, VIEWS

ROOT = Path(__file__).parent.parent
PAGES = {"en": ROOT / "docs" / "run" / "review.md", "ja": ROOT / "docs" / "ja" / "review.md"}
LARGEST_BYTES = 120_000


def test_the_folder_holds_what_the_command_takes() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}-{lang}.png" for name in VIEWS for lang in LANGUAGES}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_is_shown_on_the_page_of_its_language_and_said_in_words(lang: str) -> None:
    page = PAGES[lang]
    shown = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8"))
    assert {(page.parent / path).resolve() for _, path in shown} == {FOLDER / f"{name}-{lang}.png" for name in VIEWS}
    assert len(shown) == len(VIEWS)
    assert all(len(words) >= {"en": 60, "ja": 25}[lang] for words, _ in shown)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_each_is_a_small_png_that_says_nothing_of_where_it_was_made(path: Path) -> None:
    content, at, chunks = path.read_bytes(), 8, []
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) < LARGEST_BYTES
    while at < len(content):
        chunks.append(content[at + 4 : at + 8])
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    assert chunks == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]

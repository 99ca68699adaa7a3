"""Japanese is broken between its characters, words of other letters stay whole, and no line begins with a full stop."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.wrapping import Wrapped, wrapped

SENTENCE = "REDIS_URL は未設定です。コマンドごとに専用のサーバー（valkey-server）を起動します。"


def lines_of(renderable: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_text_that_is_not_japanese_is_left_to_rich() -> None:
    assert isinstance(wrapped(Text("nothing is sent")), Text)
    assert isinstance(wrapped(Text("送信しません")), Wrapped)


@pytest.mark.parametrize("width", [20, 24, 31, 40, 60, 120])
def test_a_sentence_is_whole_and_fits(width: int) -> None:
    lines = lines_of(wrapped(Text(SENTENCE)), width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == SENTENCE.replace(" ", "")
    assert not any(line.startswith(("。", "、", "）", " ")) for line in lines)
    assert any("valkey-server" in line for line in lines)


def test_a_number_stays_with_what_it_counts() -> None:
    assert lines_of(wrapped(Text("データ不備、要対応 4 件")), 22) == ["データ不備、要対応", "4 件"]


@given(st.text(alphabet="あ漢ーabc_1/ 、。（）\n", min_size=1), st.integers(4, 30))
def test_nothing_is_lost_at_any_width(text: str, width: int) -> None:
    lines = lines_of(Wrapped(Text(text)), width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in lines)


def test_the_cell_of_a_table_takes_lines_in_place_of_losing_its_end() -> None:
    table = Table(box=None, show_header=False, padding=0)
    table.add_row("ok ", wrapped(Text(SENTENCE)))
    assert "".join(line.removeprefix("ok").strip() for line in lines_of(table, 30)).endswith("を起動します。")

"""`report.html` as a browser shows it: by day, by night, on a phone, on paper, in both languages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser, Page
from factories import LANGUAGES, answer
from reported import HEADER, Reported, refused, unclear

from tasks.models import LeasedRow, Outcome, RowState
from tasks.operations.check import ReportPlace, check
from tasks.reports.report_data import FileWarning, TimelinePoint

LONG = "表示名がとても長い商品のための説明" * 20
ROWS = HEADER + "".join(f"cus_{n},creditcard,ios,Plan {n}\n" for n in (1, 2, 3, 4, 5, 6, 1))
ROWS += f"cus_7,creditcart,desktop,{LONG}\n{'x' * 90},auto,ios,a\n..,paypay,web,a\ncus_8,paypay\n,,,\n"
POINTS = tuple(TimelinePoint(1_800_000_000.0 + n, 10 + n % 7, n % 5 == 0, 20 < n < 25) for n in range(200))


def everything(row: LeasedRow) -> Outcome | None:
    """Created, refused for two reasons, unclear."""
    number = int(row.customer_id[-1])
    if number in (2, 3):
        return answer(row, RowState.REFUSED, code="U003005", request_id=f"req_{number:040d}", latency_ms=40)
    if number == 4:
        return answer(row, RowState.REFUSED, code="M002002", parameter="extra.x" * 30, latency_ms=400)
    return unclear(row) if number == 5 else answer(row, latency_ms=60)


@pytest.fixture(params=LANGUAGES)
def lang(request: pytest.FixtureRequest) -> str:
    """Each language."""
    return str(request.param)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """In each language a page with everything on it, the longest words too."""
    made = Reported(tmp_path_factory.mktemp("report"))
    batch = made.settle(made.accept(ROWS, name=f"{'名前' * 20}_{'x' * 80}.csv"), everything)
    warnings = [FileWarning("trimmed", "customer_id" * 9, 3, 2)]
    facts = made.facts(batch, timeline=POINTS, warnings=warnings, requests_per_second=20.0)
    return {
        lang: shutil.copytree(
            made.write(batch, facts=facts, lang=lang, excel_safe=True)["html"].parent, made.folder / lang
        )
        / "report.html"
        for lang in ("en", "ja")
    }


@pytest.fixture
def path(paths: dict[str, Path], lang: str) -> Path:
    """The page in this language."""
    return paths[lang]


def assert_quiet(page: Page, path: Path) -> None:
    """Nothing was asked of a network, and the browser has nothing to say against the page."""
    assert page.requests == [path.as_uri()]
    assert page.complaints == []


#: Of a desk, a tablet, a phone, a small phone.
SIZES = (1280, 768, 360, 320)


def test_the_page_is_as_wide_as_the_screen(browser: Browser, path: Path) -> None:
    with browser.page(path) as page:
        for width in SIZES:
            page.look(width=width)
            assert page.value("document.documentElement.scrollWidth") == width
            cut = page.value(
                """[...document.querySelectorAll("body *")].filter(each => {
                     const box = each.getBoundingClientRect();
                     return box.right > innerWidth + 0.5 && box.left >= 0 && !each.closest(".scroll, svg");
                   }).map(each => each.outerHTML.slice(0, 80))"""
            )
            assert cut == [], width
        assert_quiet(page, path)


def test_the_page_of_a_check_fits_and_says_first_that_nothing_was_sent(
    browser: Browser, reported: Reported, lang: str
) -> None:
    file = reported.folder / f"{'名前' * 20}.csv"
    file.write_text(ROWS, encoding="utf-8")
    place = ReportPlace(reported.folder / "checked", lang)
    path = check(reported.ours, file, offline=True, report=place).reports["html"]
    with browser.page(path) as page:
        for width in (1280, 390):
            page.look(width=width)
            assert page.value("document.documentElement.scrollWidth") == width
        first = page.value("document.querySelector('.verdict').innerText")
        assert ("nothing was sent" if lang == "en" else "送信も台帳への記録もしていません") in first
        assert_quiet(page, path)


#: Relative luminance of a CSS colour, as WCAG defines it.
LUMINANCE = """
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = each => {
  for (let at = each; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
  }
  return "rgb(255, 255, 255)";
};
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_light_by_day_dark_by_night_and_readable_in_both(browser: Browser, path: Path, dark: bool) -> None:
    with browser.page(path, dark=dark) as page:
        paper = page.value(f"(() => {{ {LUMINANCE} return light(ground(document.body)); }})()")
        assert paper < 0.05 if dark else paper > 0.8
        faint = page.value(
            f"""(() => {{ {LUMINANCE}
                  return [...document.querySelectorAll("h1, h2, h3, p, td, th, dt, dd, a, code, summary, span")]
                    .filter(each => each.innerText?.trim() && each.offsetWidth && !each.closest(".zero"))
                    .map(each => {{
                      const two = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => a - b);
                      return [(two[1] + 0.05) / (two[0] + 0.05), each.outerHTML.slice(0, 80)];
                    }}).filter(([contrast]) => contrast < 4.5); }})()"""
        )
        assert faint == []
        assert_quiet(page, path)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_screen_itself_is_light_or_dark(browser: Browser, path: Path, dark: bool) -> None:
    """Not only what the styles say: what was drawn, beside the sections and inside one."""
    with browser.page(path, dark=dark) as page:
        inside = page.value(
            "(() => { const box = document.querySelector('section').getBoundingClientRect();"
            " return [Math.round(box.left) + 6, Math.round(box.top) + 60]; })()"
        )
        for point in ((3, 3), inside):
            assert (max(page.colour(*point)) < 60) if dark else (min(page.colour(*point)) > 235)


def test_every_stop_of_the_keyboard_can_be_seen(browser: Browser, path: Path) -> None:
    stops = []
    with browser.page(path) as page:
        for _ in range(30):
            page.press("Tab")
            at, width, left = page.value(
                """(() => { const each = document.activeElement, style = getComputedStyle(each);
                     return [each.tagName + " " + (each.getAttribute("href") || each.className),
                             parseFloat(style.outlineWidth), each.getBoundingClientRect().left]; })()"""
            )
            if at.startswith("BODY"):
                break
            assert width >= 1 or left >= 0, at
            stops.append(at)
    assert stops[0] == "A #to-do", "first a way past the books"
    assert any("failures.csv" in stop for stop in stops)
    assert any(stop.startswith("SUMMARY") for stop in stops)


def test_a_screen_reader_hears_the_verdict_the_tables_and_the_chart_in_words(browser: Browser, path: Path) -> None:
    with browser.page(path) as page:
        page.call("Accessibility.enable")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    heard = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, _ in heard]
    assert roles.count("main") == 1
    assert roles.count("table") >= 5
    assert all(name for role, name in heard if role in ("heading", "link", "region", "image"))
    pictures = [name for role, name in heard if role == "image"]
    assert any("20" in name and re.search(r"\d\d:\d\d:\d\d", name) for name in pictures)


def test_paper_carries_the_whole_story(
    browser: Browser, path: Path, lang: str, text_of_pdf: Callable[[Path], str], tmp_path: Path
) -> None:
    with browser.page(path, dark=True) as page:
        verdict = page.value("document.querySelector('h1').innerText")
        titles = page.value("[...document.querySelectorAll('h2, h3')].map(each => each.innerText)")
        text = text_of_pdf(page.paper(tmp_path / "page.pdf"))
    squeezed = re.sub(r"\s", "", text)
    for words in (verdict, *titles):
        assert re.sub(r"\s", "", words) in squeezed
    assert ("customer_id is longer than 32 characters" if lang == "en" else "32文字を超えています").replace(
        " ", ""
    ) in squeezed
    assert "onboardresolve1" in squeezed


BATCHES = {
    "all created": (HEADER + "cus_1,creditcard,ios,a\ncus_2,creditcard,ios,a\n", answer),
    "all refused": (HEADER + "cus_1,creditcard,ios,a\ncus_2,creditcard,ios,a\n", refused()),
    "one row": (HEADER + "cus_1,creditcard,ios,a\n", answer),
    "none valid": (HEADER + "cus_1,creditcart,ios,a\n", answer),
    "all unclear": (HEADER + "cus_1,creditcard,ios,a\n", unclear),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_every_kind_of_night_has_a_page_for_a_phone(browser: Browser, reported: Reported, kind: str, lang: str) -> None:
    content, decide = BATCHES[kind]
    path = reported.report(content, decide, lang=lang)["html"]
    with browser.page(path, width=360, height=740) as page:
        assert page.value("document.documentElement.scrollWidth") == 360
        assert page.value("document.querySelector('h1').getBoundingClientRect().bottom") < 740 / 2
        assert page.value("document.querySelector('#to-do').parentElement.innerText.length") > 10
        assert_quiet(page, path)

"""The review console as a browser shows it: with axe, on a phone, at night, without scripts, by keyboard only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page
from console_served import APPROVER, VIEWER, Served, a_night, file_of
from factories import KEY, LANGUAGES, Simulator, wait_until
from reported import Reported

from tasks.models import BatchState
from tasks.operations.pause import pause

TOO_WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.skip, svg, .scroll') &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
PAGES = {
    "tonight": "/",
    "batches": "/batches",
    "finished batch": "/batches/1",
    "running batch": "/batches/2",
    "paused batch": "/batches/3",
    "pace": "/batches/1/pace",
    "rows": "/batches/1/rows",
    "wrong cells": "/batches/1/rows?state=invalid",
    "a cause": "/batches/1/rows?state=refused&code=U003005&open=1",
    "row": "/batches/1/lines/6",
    "invalid row": "/batches/1/lines/21",
    "decide": "/decide",
    "decide one": "/decide/1/6",
    "find": "/find?wanted=cus_6",
    "open": "/open",
    "upload": "/upload",
    "me": "/me",
    "no such page": "/nothing",
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    """A night that ran, a batch that runs, and one that is paused; long names, too."""
    with Simulator() as simulator:
        settings = {"ELEPAY_BASE_URL": simulator.url, "ELEPAY_SECRET_KEY": KEY}
        made = Reported(tmp_path_factory.mktemp("console"), **settings)
        made.write(a_night(made))
        made.accept(file_of(200, "kus"), name=f"{'二月のお客様' * 8}_{'x' * 60}.csv", canary_rows=5)
        pause(made.ours, made.accept(file_of(40, "dus"), name="third.csv").id, who="hanako@desk")
        yield made
        made.close()


@pytest.fixture(scope="module")
def served(installation: Reported) -> Iterator[Served]:
    """Served to somebody who may do everything."""
    with Served(installation.ours, APPROVER) as running:
        yield running


def said(page: Page) -> str:
    """What stands on a page, also while it is exchanged for the next one."""
    return str(page.value("document.body ? document.body.innerText : ''"))


def complaints(page: Page) -> list[Any]:
    """What the browser has to say, but for the status of a page that is not there."""
    return [said for said in page.complaints if "404" not in str(said)]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.resilience)], ids=["day", "night"])
def test_axe_and_the_browser_find_nothing_by_day_by_night_and_on_a_phone(
    browser: Browser, served: Served, dark: bool, lang: str
) -> None:
    with browser.page("about:blank", lang=lang) as page:
        for path in PAGES.values():
            page.look(dark=dark)
            page.open(served.url + path)
            assert page.faults() == [], path
            page.look(width=360, height=740, dark=dark)
            assert page.value("document.documentElement.scrollWidth") <= 360, (path, page.value(TOO_WIDE))
            assert complaints(page) == [], path
            assert all(address.startswith((served.url, "data:")) for address in page.requests), path


def test_a_viewer_is_offered_no_deed(browser: Browser, installation: Reported) -> None:
    with Served(installation.ours, VIEWER) as served, browser.page("about:blank") as page:
        for path in PAGES.values():
            page.open(served.url + path)
            assert page.value("document.querySelectorAll('form[method=post]').length") == 0, path


@pytest.mark.resilience
def test_axe_finds_nothing_on_the_pages_of_a_viewer(browser: Browser, installation: Reported) -> None:
    with Served(installation.ours, VIEWER) as served, browser.page("about:blank") as page:
        for path in PAGES.values():
            page.open(served.url + path)
            assert page.faults() == [], path


def test_a_page_can_be_printed(browser: Browser, served: Served, tmp_path: Path) -> None:
    with browser.page(f"{served.url}/batches/1") as page:
        assert page.paper(tmp_path / "batch.pdf").stat().st_size > 10_000


def test_what_moves_is_refreshed_and_keeps_the_focus(browser: Browser, installation: Reported, served: Served) -> None:
    with browser.page(f"{served.url}/batches/2") as page:
        page.value("document.querySelector('#live a').focus()")
        pause(installation.ours, 2, who="taro@desk")
        try:
            wait_until(lambda: "Paused by taro@desk" in said(page), 30, "the news")
            assert page.value("document.activeElement.tagName") == "A"
            assert page.value("document.querySelector('[data-every]')") is None
            assert complaints(page) == []
        finally:
            served.post("/batches/2/resume")


def test_a_focus_that_a_refreshment_takes_away_goes_to_the_content(
    browser: Browser, installation: Reported, served: Served
) -> None:
    with browser.page(f"{served.url}/batches/2") as page:
        page.value("document.querySelector('form[action$=pause] button').focus()")
        pause(installation.ours, 2, who="taro@desk")
        try:
            wait_until(lambda: "Paused by taro@desk" in said(page), 30, "the news")
            assert page.value("document.activeElement.matches('main, #live button')")
        finally:
            served.post("/batches/2/resume")


def test_a_batch_is_paused_by_keyboard_and_without_scripts(
    browser: Browser, installation: Reported, served: Served
) -> None:
    with browser.page(f"{served.url}/batches/2", lang="ja", scripts=False) as page:
        page.tab_to("form[action$=pause] button")
        page.press("Enter")
        wait_until(lambda: "バッチを一時停止しました" in said(page), 30, "the message")
    assert installation.ledger.batches.get(2).state is BatchState.PAUSED
    served.post("/batches/2/resume")


def test_rows_are_decided_by_keyboard_only(browser: Browser, installation: Reported, served: Served) -> None:
    with browser.page(f"{served.url}/decide", lang="ja") as page:
        for _ in range(2):
            page.tab_to("input[type=checkbox]:not(:checked)")
            page.press(" ")
        page.tab_to("input[type=radio][value=created]")
        page.press("ArrowDown")
        page.press("ArrowDown")
        page.tab_to("input[name=reason]")
        page.type("お客様が退会済み")
        page.press("Enter")
        wait_until(lambda: "2 件を確定しました" in said(page), 30, "the message")
    decided = installation.ledger.history.lines(1, 5)[-1]
    assert decided["what"] == "resolved: given_up, because: お客様が退会済み"


def test_an_upload_is_checked_and_sent_without_scripts(
    browser: Browser, installation: Reported, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "fourth.csv").write_text(file_of(20, "uus"), "utf-8")
    with browser.page(f"{served.url}/upload", lang="en", scripts=False) as page:
        page.call("DOM.enable")
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        field = page.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        page.call("DOM.setFileInputFiles", files=[str(tmp_path / "fourth.csv")], nodeId=field)
        page.tab_to("form[action='/upload'] button")
        page.press("Enter")
        wait_until(lambda: "19 of 20 rows can be sent" in said(page), 60, "the check")
        assert page.value("document.querySelectorAll('mark').length") == 1
        page.tab_to("form[action$=send] button")
        page.press("Enter")
        wait_until(lambda: re.search(r"/batches/\d+", page.value("location.pathname")), 60, "the batch")
    batch = installation.ledger.batches.newest(1)[0]
    assert (batch.name, batch.brought_by, batch.canary) == ("fourth.csv", "console", 10)

"""The sign-in as a browser shows it: by keyboard, without scripts, under the policy; and traps that never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, Page
from consoles import PASSWORD, served
from factories import answer, wait_until
from reported import Reported

from tasks.models import LeasedRow, Outcome, RowState
from tasks.operations.console_users import add_user

#: Closes what it stands in, and would name itself as the page's title if any of it ran.
RUNS = "document.title='ran'"
TRAP = f'"\'></script><script>{RUNS}</script><img src=x onerror="{RUNS}"><svg onload=alert(1)>'


@pytest.fixture
def console(reported: Reported) -> Iterator[str]:
    add_user(reported.ours, "hana", "approver", PASSWORD)
    with served(reported.ours) as url:
        yield url


def said(page: Page) -> str:
    return str(page.value("document.body ? document.body.innerText : ''"))


def complaints(page: Page) -> list[Any]:
    return [each for each in page.complaints if "403" not in str(each)]


def sign_in(page: Page, password: str) -> None:
    """Type name and password, as somebody without a mouse does."""
    page.tab_to("input[name=name]")
    page.type("hana")
    page.tab_to("input[name=password]")
    page.type(password)
    page.press("Enter")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_somebody_signs_in_and_out_by_keyboard_and_without_scripts(browser: Browser, console: str, lang: str) -> None:
    wrong, out = {
        "en": ("do not fit together", "You are signed out"),
        "ja": ("正しくありません", "ログアウトしました"),
    }[lang]
    with browser.page(f"{console}/me", lang=lang, scripts=False) as page:
        assert page.value("location.pathname") == "/sign-in"
        sign_in(page, "not the password")
        wait_until(lambda: wrong in said(page), 30, "the refusal")
        sign_in(page, PASSWORD)
        wait_until(lambda: page.value("location.pathname") == "/me" and "hana" in said(page), 30, "the page")
        page.tab_to("form[action='/sign-out-everywhere'] button")
        page.press("Enter")
        wait_until(lambda: out in said(page), 30, "the end of the session")
        page.open(f"{console}/batches")
        assert page.value("location.pathname") == "/sign-in"
        assert complaints(page) == []


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_axe_finds_nothing_on_the_sign_in_and_it_fits_a_phone(browser: Browser, console: str, lang: str) -> None:
    with browser.page(f"{console}/sign-in", lang=lang, width=360, height=740) as page:
        assert page.faults() == []
        page.look(width=360, height=740, dark=True)
        assert page.faults(["color-contrast"]) == []
        assert page.value("document.documentElement.scrollWidth") <= 360
        assert complaints(page) == []


def trapped(row: LeasedRow) -> Outcome:
    if row.record == 1:
        return answer(row, source_id=TRAP, source_status=TRAP, request_id=TRAP)
    return answer(row, RowState.UNCLEAR if row.record == 2 else RowState.REFUSED, code=TRAP, parameter=TRAP)


def test_no_trap_in_a_file_or_an_answer_ever_runs(browser: Browser, reported: Reported, console: str) -> None:
    cell = '"' + TRAP.replace('"', '""') + '"'
    lines = "".join(f"{cell}{at},creditcard,ios,{cell}\n" for at in range(3)) + f"{cell},{cell},ios,{cell}\n"
    name = "\"'><img src=x onerror=alert(1)>.csv"
    batch = reported.settle(reported.accept("customer_id,payment_method,resource,description\n" + lines, name), trapped)
    with browser.page(f"{console}/sign-in") as page:
        sign_in(page, PASSWORD)
        wait_until(lambda: page.value("location.pathname") == "/" and "hana" in said(page), 30, "the page")
        at = f"/batches/{batch.id}"
        for path in (
            "/",
            "/batches",
            at,
            f"{at}/rows",
            *(f"{at}/lines/{line}" for line in (2, 3, 4, 5)),
            "/open",
            "/decide",
        ):
            page.open(console + path)
            assert page.value("document.title !== 'ran' && !document.querySelector('img, [onerror], [onload]')"), path
            assert complaints(page) == [], path
            assert all(address.startswith((console, "data:")) for address in page.requests), path

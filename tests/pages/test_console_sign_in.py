"""The sign-in as a browser shows it: by keyboard, without scripts, under the policy; and traps that never run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import Browser, Page
from consoles import PASSWORD, served
from factories import KEY, LANGUAGES, answer, wait_until
from raw_server import Asked, Scripted, http, source_of
from reported import HEADER, Reported, unclear

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


@pytest.mark.parametrize("lang", LANGUAGES)
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


@pytest.mark.parametrize("lang", LANGUAGES)
def test_axe_finds_nothing_on_the_sign_in_and_it_fits_a_phone(browser: Browser, console: str, lang: str) -> None:
    with browser.page(f"{console}/sign-in", lang=lang, width=360, height=740) as page:
        assert page.faults() == []
        page.look(width=360, height=740, dark=True)
        assert page.faults() == []
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


#: What fits into a word of elepay's: no blank, at most 64 characters.
SHORT_TRAPS = (
    f'"><img/src=x/onerror={RUNS}>',
    f"</script><script>{RUNS}</script>",
    f"<svg/onload={RUNS}>",
    f"javascript:{RUNS}",
    "{{7*7}}'><iframe/srcdoc=x>",
)


def hostile(references: dict[str, str]) -> Callable[[Asked], list[bytes | float]]:
    """An elepay that puts traps into every field; `references` are those of our rows, by customer."""

    def reply(asked: Asked) -> list[bytes | float]:
        path = asked.request.split(b" ", 2)[1].decode().partition("?")[0].split("/")
        if path[1] == "sources":
            return [http(200, {"id": unquote(path[2]), "status": SHORT_TRAPS[2], "liveMode": False})]
        if asked.customer == "cus_error":
            error = {"errorCode": SHORT_TRAPS[1], "code": SHORT_TRAPS[0], "message": TRAP, "requestId": SHORT_TRAPS[3]}
            return [http(400, error)]
        others = [_source(asked, at, trap, SHORT_TRAPS[-1 - at]) for at, trap in enumerate(SHORT_TRAPS)]
        own = _source(asked, 9, SHORT_TRAPS[0], references[asked.customer])
        listed = [own, *others[1:]] if asked.customer == "cus_own" else others
        total = 99 if asked.customer == "cus_incomplete" else len(listed)
        return [http(200, {"total": total, "sources": listed})]

    return reply


def _source(asked: Asked, at: int, trap: str, reference: str) -> dict[str, Any]:
    return source_of(
        id=trap, status=SHORT_TRAPS[at % 5], customerId=asked.customer, metadata={"onboarding_ref": reference}
    )


def test_no_trap_that_elepay_answers_ever_runs_where_rows_are_decided(browser: Browser, tmp_path: Path) -> None:
    references: dict[str, str] = {}
    with Scripted(hostile(references)) as elepay:
        settings = {"ELEPAY_BASE_URL": elepay.url, "ELEPAY_SECRET_KEY": KEY}
        made = Reported(tmp_path, **settings)
        add_user(made.ours, "hana", "approver", PASSWORD)
        customers = ("cus_own", "cus_others", "cus_error", "cus_incomplete")
        lines = "".join(f"{customer},creditcard,ios,a\n" for customer in customers)
        batch = made.settle(made.accept(HEADER + lines), unclear)
        references |= {row.customer_id: row.reference for row in made.ledger.resolution.unclear_rows(batch.id)}
        with served(made.ours) as url, browser.page(f"{url}/sign-in") as page:
            sign_in(page, PASSWORD)
            wait_until(lambda: "hana" in said(page), 30, "the page")
            shown = ""
            for path in ("/decide", *(f"/decide/{batch.id}/{line}" for line in (2, 3, 4, 5))):
                page.open(url + path)
                shown += said(page)
                _require_quiet(page, url, path)
            assert all(trap in shown for trap in SHORT_TRAPS), "each was shown, as text"
            page.open(f"{url}/decide")
            assert page.value("document.querySelector('input[name^=source-]').value") == SHORT_TRAPS[0]
            for field in ("input[name=row][value*=',']", "input[value=created]"):
                page.tab_to(field)
                page.press(" ")
            page.tab_to("button.main")
            page.follow()
            assert "1 row is decided" in said(page)
            _require_quiet(page, url, "decided")
            page.open(f"{url}/batches/{batch.id}/lines/2")
            assert SHORT_TRAPS[0] in said(page)
            for path in (
                f"/batches/{batch.id}/lines/2",
                f"/batches/{batch.id}/rows",
                "/batches/1",
                "/find?wanted=cus_own",
            ):
                page.open(url + path)
                _require_quiet(page, url, path)
        made.close()


def _require_quiet(page: Page, url: str, path: str) -> None:
    """Require that nothing on a page ran, was refused by its policy, or was asked for elsewhere."""
    assert page.value("document.title !== 'ran' && !document.querySelector('img, iframe, [onerror], [onload]')"), path
    assert page.value("document.querySelectorAll('a[href^=javascript]').length") == 0, path
    assert [each for each in page.complaints if "409" not in str(each)] == [], path
    assert all(address.startswith((url, "data:")) for address in page.requests), path

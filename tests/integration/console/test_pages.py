"""What the pages show: with nothing, with a night, with a thousand rows, and without their ledger."""

from __future__ import annotations

import html
import re
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from console_served import APPROVER, VIEWER, Served, a_night, file_of
from factories import KEY
from reported import HEADER, Reported, refused, unclear
from sqlalchemy import text

from tasks.models import RowState
from tasks.operations.pause import pause
from tasks.services import Services
from worker.console.app import _PAGES

Console = Callable[..., Served]
ROOT = Path(__file__).resolve().parents[3]
EVERYWHERE = ["/", "/batches", "/open", "/decide", "/find", "/find?wanted=cus_5", "/upload", "/me"]
OF_BATCH = ["", "/pace", "/rows", "/rows?state=created", "/rows?state=invalid", "/lines/2"]


def test_no_page_is_left_out() -> None:
    routes = [route for pages in _PAGES for route in pages.ROUTES if "GET" in (route.methods or ())]
    assert {route.path for route in routes if "{" not in route.path} <= {path.partition("?")[0] for path in EVERYWHERE}


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_every_page_is_there_with_any_number_of_rows(
    reported: Reported, console: Console, rows: int, lang: str
) -> None:
    paths = [*EVERYWHERE, *(f"/batches/{a_night(reported, rows).id}{path}" for path in OF_BATCH if rows)]
    served = console()
    for path in paths:
        answer = served.get(path, lang)
        assert answer.status_code == 200, (path, answer.text[-500:])
        assert f'<html lang="{lang}">' in answer.text


def test_every_count_leads_to_its_rows(console: Console, night: int) -> None:
    served = console()
    page = served.get(f"/batches/{night}").text
    counts = dict(re.findall(rf'<a href="/batches/{night}/rows\?state=(\w+)">(\d+)</a>', page))
    assert counts == {"created": "33", "invalid": "3", "refused": "18", "unclear": "6"}
    for state, count in counts.items():
        rows = served.get(f"/batches/{night}/rows?state={state}").text
        assert len(re.findall(rf'href="/batches/{night}/lines/\d+"', rows)) == int(count)


def test_a_cause_leads_to_its_rows_and_to_no_others(console: Console, night: int) -> None:
    served = console()
    page = html.unescape(served.get(f"/batches/{night}").text)
    causes = re.findall(r"<b>(\d+)</b>.*?href=\"(/batches/\d+/rows\?[^\"]+|/decide\?[^\"]+)\"", page, re.DOTALL)
    assert [int(count) for count, _ in causes] == [12, 6, 6, 3]
    for count, link in causes:
        if "/rows" in link:
            assert len(re.findall(r"/lines/\d+\"", served.get(link).text)) == int(count), link


def test_pages_of_rows_come_one_after_the_other(reported: Reported, console: Console) -> None:
    batch = a_night(reported, 1_000)
    served, link, seen = console(), f"/batches/{batch.id}/rows?state=created", []
    while link:
        page = served.get(link).text
        seen += [int(line) for line in re.findall(r"/lines/(\d+)\"", page)]
        following = re.search(r'class="pager"><a href="([^"]+)"', page)
        link = html.unescape(following[1]) if following else ""
    assert seen == sorted(set(seen))
    assert len(seen) == reported.ledger.queries.counts(batch.id).created


def test_every_unclear_row_is_on_some_page(reported: Reported, console: Console) -> None:
    batches = [reported.settle(reported.accept(file_of(200 + n, f"cus{n}_")), unclear) for n in range(2)]
    every = [f"{batch.id}:{row.line}" for batch in batches for row in reported.ledger.resolution.unclear_rows(batch.id)]
    served, link, seen = console(), "/decide", []
    while link:
        page = served.get(link).text
        assert f"{len(every)} " in page.partition("<h1>")[2].partition("</h1>")[0]
        seen += re.findall(r'name="row" value="([\d:]+)"', page)
        following = re.search(r'class="pager"><a href="([^"]+)"', page)
        link = html.unescape(following[1]) if following else ""
    assert seen == every
    assert len(served.get(f"/decide?batch={batches[1].id}&after={batches[1].id}:198").text.split('name="row"')) > 1


def test_the_wrong_cell_is_marked(console: Console, night: int) -> None:
    page = console().get(f"/batches/{night}/rows?state=invalid").text
    assert page.count("<mark>creditcart</mark>") == 3


def test_a_viewer_sees_no_personal_data(reported: Reported, console: Console, night: int) -> None:
    reported.write(reported.ledger.batches.get(night))
    served = console(VIEWER)
    for path in [*EVERYWHERE[:-3], "/find?wanted=cus_25", *(f"/batches/{night}{each}" for each in OF_BATCH), "/decide"]:
        page = served.get(path).text.replace('value="cus_25"', "").replace("wanted=cus_25", "")
        assert not re.search(r"\bcus_\d|会員プラン", page), path
    assert served.get(f"/batches/{night}/reports/results").status_code == 404


def test_a_file_writes_nothing_into_a_page(reported: Reported, console: Console) -> None:
    """Every cell, the name of a column and of the file itself as markup."""
    evil = "<script>alert(1)</script>"
    content = "customer_id,payment_method,resource,description,extra.<b>x</b>\n"
    content += "".join(f'{evil}{n},"{evil}",{evil},{evil},{evil}\n' for n in range(3)) + "cus_1,creditcard,ios,a,b\n"
    batch = reported.accept(content, name="<img src=x onerror=alert(1)>.csv")
    served = console()
    for path in [
        "/",
        "/batches",
        "/open",
        f"/find?wanted={evil}",
        *(f"/batches/{batch.id}{each}" for each in OF_BATCH),
    ]:
        page = served.get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "<b>x</b>" not in page


def test_a_ledger_out_of_reach_is_said_in_a_sentence(reported: Reported, console: Console, night: int) -> None:
    served = console()
    with reported.ledger.engine.write() as connection:
        connection.execute(text("alter table rows rename to elsewhere"))
    try:
        for path in ("/", f"/batches/{night}", "/open"):
            answer = served.get(path)
            assert answer.status_code == 503
            assert "the ledger failed" in answer.text
    finally:
        with reported.ledger.engine.write() as connection:
            connection.execute(text("alter table elsewhere rename to rows"))
    assert served.get("/").status_code == 200


def test_what_is_not_there_is_said(console: Console, night: int) -> None:
    served = console()
    for path in ("/nothing", "/batches/99", f"/batches/{night}/lines/99999", "/upload/0123", "/static/../app.py"):
        assert served.get(path).status_code == 404, path
    for name in ("results", "..%2F..%2Fledger.db", "%2Fetc%2Fpasswd", "manifest.json"):
        assert served.get(f"/batches/{night}/reports/{name}").status_code == 404, name


def test_reports_are_sent_as_files(reported: Reported, console: Console, night: int) -> None:
    written = reported.write(reported.ledger.batches.get(night))
    answer = console().get(f"/batches/{night}/reports/results")
    assert answer.content == written["results"].read_bytes()
    assert answer.headers["content-disposition"].startswith("attachment")


def test_batches_are_found_by_state_mode_and_day(reported: Reported, console: Console, night: int) -> None:
    reported.accept(file_of(5, "dus"))
    served = console()

    def shown(query: str) -> list[str]:
        return re.findall(r'class="name" href="/batches/(\d+)"', served.get(f"/batches?{query}").text)

    assert shown("") == ["2", "1"]
    assert shown("state=finished") == [str(night)]
    assert shown("mode=live") == []
    assert shown("day=2001-01-01") == []
    assert shown("before=2") == ["1"]


def test_tonight_counts_what_lies_at_the_door(reported: Reported, console: Console) -> None:
    inbox = reported.ours.settings.drop_folder / "inbox"
    inbox.mkdir(parents=True)
    for name in ("a.csv", "b.csv", "c.csv.part", "a.csv.done"):
        (inbox / name).touch()
    assert "Files in the drop folder: 2." in console().get("/").text


def test_a_page_speaks_the_language_that_was_chosen(console: Console) -> None:
    served = console()
    chosen = served.get("/?lang=ja", "en")
    assert "今夜の状況" in chosen.text
    assert "今夜の状況" in served.get("/", "en", cookies=chosen.cookies).text
    assert "今夜の状況" not in served.get("/", "fr,de;q=0.5").text


def test_evidence_shows_what_elepay_has_and_no_credential(reported: Reported, console: Console, night: int) -> None:
    row = next(each for each in reported.ledger.resolution.unclear_rows(night))
    source = make_source(reported, row.customer_id, row.reference)
    page = console().get(f"/decide/{night}/{row.line}").text
    assert source in page
    assert "it was created" in page
    assert "credential" not in page.replace("creditcard", "")


def make_source(reported: Reported, customer: str, reference: str) -> str:
    """Make a source at elepay as if the answer to its request had been lost."""
    answer = requests.post(
        f"{reported.ours.settings.base_url}/customers/{customer}/sources",
        json={
            "paymentMethod": "creditcard",
            "resource": "ios",
            "metadata": {"onboarding_ref": reference},
        },
        auth=(KEY, ""),
        timeout=60,
    )
    assert answer.status_code < 300, answer.text
    found: str = answer.json()["id"]
    return found


@pytest.mark.parametrize("noted", ["worker/console/static/vendored.toml", "tests/pages/axe/vendored.toml"])
def test_what_is_not_ours_is_as_it_was_published(noted: str) -> None:
    folder = (ROOT / noted).parent
    for name, said in tomllib.loads((ROOT / noted).read_text("utf-8")).items():
        assert sha256((folder / name).read_bytes()).hexdigest() == said["sha256"]


def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    for template in (ROOT / "worker" / "console" / "templates").glob("*.j2"):
        content = template.read_text("utf-8")
        assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=|hx-on|javascript:|js:", content), (
            template
        )


def test_a_batch_that_stops_is_shown_whole_as_it_is_then(reported: Reported, console: Console) -> None:
    """Its page is not refreshed any more: nothing on it may be from a moment before."""
    batch, served = reported.accept(file_of(40)), console()
    assert "data-every" in served.get(f"/batches/{batch.id}").text
    reported.settle(batch, lambda row: refused()(row) if row.record < 30 else None)
    pause(reported.ours, batch.id, who="taro@desk")
    page = served.get(f"/batches/{batch.id}").text
    assert "data-every" not in page
    assert "Paused by taro@desk." in page
    assert 'rows?state=refused">28<' in page
    assert "U003005" in page, "what needs a person"


def test_rows_that_wait_are_open(reported: Reported, console: Console) -> None:
    batch = reported.accept(HEADER + "cus_1,creditcard,ios,a\n")
    assert reported.ledger.queries.count_states(batch.id) == {RowState.WAITING: 1}
    assert "/lines/2" in console().get(f"/batches/{batch.id}/rows?state=open").text


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_no_page_says_that_there_is_nothing_to_do_about_a_batch_of_another_account(
    reported: Reported, night: int, lang: str
) -> None:
    elsewhere = reported.ours.settings.model_copy(update={"base_url": "http://127.0.0.1:9"})
    with Served(Services(elsewhere), APPROVER) as served:
        page = served.get(f"/batches/{night}?lang={lang}").text
        assert reported.ours.account.address in page.partition("<main")[2]
        assert {"en": "Nothing: no row", "ja": "対応が必要な行はありません"}[lang] not in page
        assert "/retry" not in page
        assert f"/batches/{night}/report" in page
        assert "#to-do" not in served.get("/").text

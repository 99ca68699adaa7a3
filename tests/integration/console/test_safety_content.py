"""What strangers write: values of files, elepay's answers, addresses of downloads, files that are traps."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from consoles import PASSWORD, Browser, asked, raw, served, status_of
from factories import answer
from reported import Reported

from tasks.models import LeasedRow, Outcome, RowState
from tasks.operations.console_users import add_user
from tasks.services import Services

#: Ends an attribute, a tag, a comment, a text; is a template, a formula and an address, too.
TRAP = "\"'><xss onclick=alert(1)>-->{{7*7}}javascript:alert(1)"


class Markup(HTMLParser):
    """Notes what a browser would run, or take from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.harmful: list[str] = []
        self.scripts = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in ("xss", "style", "iframe", "object", "embed", "base"):
            self.harmful.append(tag)
        if tag == "script" and not given.get("src", "").startswith("/static/"):
            self.harmful.append("script")
        for name, value in given.items():
            if name.startswith(("on", "hx-on")) or name in ("style", "srcdoc"):
                self.harmful.append(f"{tag} {name}")
            elif name in ("href", "src", "action", "formaction") and not re.match(r"[/?#]|data:,$", value):
                self.harmful.append(f"{tag} {name}={value}")


@pytest.fixture
def hana(reported: Reported) -> Iterator[Browser]:
    """Somebody who may see everything."""
    add_user(reported.ours, "hana", "approver", PASSWORD)
    add_user(reported.ours, "jiro", "viewer", PASSWORD)
    with served(reported.ours) as url:
        browser = Browser(url)
        assert browser.sign_in("hana").status_code == 303
        yield browser


def trapped(row: LeasedRow) -> Outcome:
    """What elepay could say at its worst, in every field that the ledger keeps of an answer."""
    if row.record == 1:
        return answer(row, source_id=TRAP, source_status=TRAP, request_id=TRAP)
    if row.record == 2:
        return answer(row, RowState.REFUSED, code=TRAP, parameter=TRAP, request_id=TRAP)
    return answer(row, RowState.UNCLEAR, code=TRAP, request_id=TRAP)


def test_nothing_that_a_file_or_elepay_says_becomes_markup(reported: Reported, hana: Browser) -> None:
    cell = '"' + TRAP.replace('"', '""') + '"'
    title = cell.replace("alert", "title")
    lines = [f"{cell}{at},creditcard,ios,{cell},{cell}\n" for at in range(3)]
    lines += [f"{cell},{cell},{cell},{cell},{cell}\n", f"cus_9,creditcard,ios,{cell}\n"]
    name = "\"'><xss onclick=alert(1)>{{7*7}}.csv"
    content = f"customer_id,payment_method,resource,description,{title}\n" + "".join(lines)
    batch = reported.settle(reported.accept(content, name, who=TRAP, brought_by="run"), trapped)
    reported.ledger.history.note(batch.id, 0, TRAP, TRAP)
    reported.ledger.history.note(batch.id, 1, TRAP, TRAP)
    pages = [
        "/", "/batches", f"/batches/{batch.id}", f"/batches/{batch.id}/pace", f"/batches/{batch.id}/rows",
        *(f"/batches/{batch.id}/lines/{line}" for line in (2, 3, 4, 5, 6)), "/decide", f"/decide/{batch.id}/4",
        "/open", "/me", "/upload",
    ]  # fmt: skip
    seen = ""
    for lang in ("en", "ja"):
        for path in pages:
            page = hana.get(path, headers={"Accept-Language": lang})
            assert page.status_code == 200, path
            assert Markup(page.text).harmful == [], path
            seen += page.text
        for path, query in (
            ("/find", "wanted"),
            (f"/batches/{batch.id}/rows", "code"),
            ("/batches", "day"),
            ("/", "said"),
        ):
            page = hana.get(path, params={query: TRAP, "lang": lang})
            assert Markup(page.text).harmful == [], path
    assert "&lt;xss onclick" in seen, "the traps were shown, as text"
    assert "49javascript" not in seen, "and nothing was calculated"


def test_a_viewer_sees_no_personal_data_and_looks_of_others_are_written_down(reported: Reported, hana: Browser) -> None:
    rows = "".join(f"cus_secret_{at},creditcard,ios,Yamada Hanako {at}\n" for at in range(3))
    bad = "cus_secret_8,nonsense,ios,Yamada Hanako 8\n"
    content = "customer_id,payment_method,resource,description\n" + rows + bad
    batch = reported.settle(
        reported.accept(content),
        lambda row: answer(row, RowState.UNCLEAR, code="lost_answer") if row.record < 3 else answer(row),
    )
    jiro = Browser(hana.url)
    jiro.sign_in("jiro")
    at = f"/batches/{batch.id}"
    pages = [f"{at}/rows", f"{at}/lines/2", f"{at}/lines/5", "/decide", f"/decide/{batch.id}/2"]
    pages += ["/find?wanted=cus_secret_1", "/open", at]
    for path in pages:
        shown = jiro.get(path).text.replace("wanted=cus_secret_1", "").replace('value="cus_secret_1"', "")
        assert not re.search("cus_secret_[028]|Yamada Hanako", shown), path
    assert [line for line in reported.ledger.history.lines(batch.id) if line["what"] == "saw personal data"] == []
    for path in pages[:2]:
        hana.get(path)
    looks = [line for line in reported.ledger.history.lines(batch.id) if line["what"] == "saw personal data"]
    assert [(line["record"], line["who"]) for line in looks] == [(record, "hana") for record in (1, 2, 3, 4, 1)]
    assert jiro.post(f"/batches/{batch.id}/cancel").status_code == 403
    assert "cancel" in reported.ledger.history.lines(batch.id, 0)[-1]["what"]


def test_where_customers_are_masked_nobody_sees_one_whole(reported: Reported, hana: Browser) -> None:
    """ONBOARD_MASK_CUSTOMERS holds for an approver, too; who sees nothing is not written down as having seen it."""
    rows = "".join(f"cus_8fK2mQx{at}a1b2,creditcard,ios,Yamada Hanako {at}\n" for at in range(3))
    bad = "cus_8fK2mQx8a1b2,nonsense,ios,Yamada Hanako 8\ncus 8fK2mQx9a1b2,creditcard,ios,Yamada Hanako 9\n"
    batch = reported.settle(
        reported.accept("customer_id,payment_method,resource,description\n" + rows + bad),
        lambda row: answer(row, RowState.UNCLEAR, code="lost_answer") if row.record < 3 else answer(row),
    )
    reference = reported.ledger.resolution.unclear_rows(batch.id)[0].reference
    at, about = f"/batches/{batch.id}", {"customer": "8fK2mQx", "cell": "Yamada Hanako", "reference": reference}
    pages = [f"{at}/rows", *(f"{at}/lines/{line}" for line in (2, 4, 5, 6)), "/decide", f"/decide/{batch.id}/2"]
    pages += ["/open", at, f"/find?wanted={reported.ledger.resolution.customer_of(batch.id, 2)}"]
    seen = "".join(hana.get(path).text for path in pages)
    assert all(secret in seen for secret in about.values()), "hana sees them as long as they are not masked"
    before = len(reported.ledger.history.lines(batch.id))
    masking = reported.ours.settings.model_copy(update={"mask_customers": True})
    services = Services(masking)
    services.ledger = reported.ledger
    with served(services) as url:
        hana = Browser(url)
        hana.sign_in("hana")
        for path in pages:
            shown = hana.get(path).text.replace(path.partition("=")[2] or "-", "")
            for kind, secret in about.items():
                assert secret not in shown, (path, kind)
            assert "…a1b2" in shown or path in ("/open", at), path
    assert len(reported.ledger.history.lines(batch.id)) == before


def test_a_download_stands_in_the_history_and_leads_to_reports_only(reported: Reported, hana: Browser) -> None:
    batch = reported.settle(reported.accept("customer_id,payment_method,resource\ncus_1,creditcard,ios\n"))
    reported.write(batch)
    name, file = "results", "results.csv"
    assert hana.get(f"/batches/{batch.id}/reports/{name}").status_code == 200
    assert [line["who"] for line in reported.ledger.history.lines(batch.id, 0) if file in line["what"]] == ["hana"]
    cookie = next(iter(hana.session.cookies))
    for path in (
        "../../../ledger.db", "..%2f..%2fledger.db", "%2e%2e%2f%2e%2e%2fconsole-users", "..", ".", "%00results",
        "results%00",
        "results.csv/../../../../home/console-users", "/etc/passwd", "%2fetc%2fpasswd", "results.csv%00.html",
    ):  # fmt: skip
        found = raw(hana.url, asked(f"/batches/{batch.id}/reports/{path}", Cookie=f"{cookie.name}={cookie.value}"))
        assert status_of(found) in (400, 404), path
        assert not re.search(b"SQLite|argon2|root:", found), path
    for other in (f"{batch.id}/../{batch.id}", "-1", "1e3", "9" * 21, "%EF%BC%90"):
        found = raw(hana.url, asked(f"/batches/{other}/reports/{name}", Cookie=f"{cookie.name}={cookie.value}"))
        assert status_of(found) in (400, 404)


def test_a_zip_bomb_is_no_csv_and_is_never_unpacked(reported: Reported, hana: Browser) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"<row/>" * 50_000_000)  # 300 MB of it in 300 KB
    assert len(packed.getvalue()) < 2_000_000
    sent = hana.post("/upload", None, files={"file": ("bomb.xlsx", packed.getvalue())})
    assert sent.status_code == 303
    ends = time.monotonic() + 100
    while 'data-every="1"' in (page := hana.get(sent.headers["location"])).text:
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert page.status_code == 200
    assert re.search("Excel|xlsx|zip|workbook", page.text)
    folder = reported.ours.settings.home / "uploads"
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 4_000_000, "nothing was unpacked"
    assert reported.ledger.batches.newest() == []


def test_what_is_called_like_a_path_stays_in_its_folder(reported: Reported, hana: Browser) -> None:
    for name in ("../../../evil.csv", "/etc/cron.d/evil", "..\\..\\evil.csv", ".ssh", "upload.json", "a\r\nb.csv"):
        hana.post("/upload", None, files={"file": (name, "customer_id,payment_method,resource\n")})
    root = reported.ours.settings.home / "uploads"
    known = {"check.pickle", "checking.json", "upload.json", "accepting.json", "accepted.json", "error.pickle"}
    outside = [path for path in reported.folder.rglob("*evil*") if root not in path.parents]
    assert outside == []
    names = {path.name for path in root.glob("*/*")} - known
    assert all(
        (re.fullmatch(r"[\w\\.% -]+", name) and not name.startswith(".")) or name.endswith(".part") for name in names
    )


def test_who_may_not_decide_finds_every_door_closed(reported: Reported, hana: Browser) -> None:
    """Every address of a deed, asked by a viewer and by nobody."""
    batch = reported.accept("customer_id,payment_method,resource\ncus_1,creditcard,ios\n")
    jiro, nobody = Browser(hana.url), Browser(hana.url)
    jiro.sign_in("jiro")
    from worker.console.app import build_app

    deeds = [
        route.path.replace("{batch:int}", str(batch.id)).replace("{token}", "0" * 32)
        for route in build_app(reported.ours).routes
        if "POST" in (getattr(route, "methods", None) or ()) and not route.path.startswith("/sign")  # type: ignore[attr-defined]
    ]
    assert len(deeds) > 8
    for path in deeds:
        assert nobody.post(path, {"row": "1:2"}).status_code == 401, path
        assert jiro.post(path, {"row": "1:2", "decision": "give-up"}).status_code == 403, path
    assert reported.ledger.batches.get(batch.id).state == batch.state

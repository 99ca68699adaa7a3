"""`report.html`: one file that stands alone, says the verdict first, and lets nothing of a file through as mark-up."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from factories import answer
from reported import HEADER, Reported, cells, refused, unclear

from tasks.errors import UnusableFile
from tasks.models import BatchState, LeasedRow, Outcome, RowCounts, RowState, Stop, StopCode
from tasks.reports.report_data import FileWarning, TimelinePoint
from tasks.stop_texts import stop_of_file

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What stands in a page: elements with their attributes and all text, and whether tags are well nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.hidden: list[bool] = []
        self.charts: list[bool] = []  #: of each whether it, or something around it, is hidden from screen readers
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.hidden.append(("aria-hidden", "true") in attrs or any(self.hidden[-1:]))
        if tag == "svg":
            self.charts.append(self.hidden[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.hidden.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")

    def of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


def everything(row: LeasedRow) -> Outcome | None:
    """Created, refused for two reasons, unclear."""
    number = int(row.customer_id[-1])
    if number in (2, 3):
        return answer(row, RowState.REFUSED, code="U003005", request_id=f"req_{number}", latency_ms=40)
    if number == 4:
        return answer(row, RowState.REFUSED, code="M002002", parameter="extra.x", latency_ms=400)
    return unclear(row) if number == 5 else answer(row, latency_ms=60)


ROWS = HEADER + "".join(f"cus_{n},creditcard,ios,a\n" for n in (1, 2, 3, 4, 5, 6, 1)) + "cus_7,creditcart,ios,a\n"
POINTS = tuple(TimelinePoint(1_800_000_000.0 + n, 10 + n, n % 3, n == 4) for n in range(9))


@pytest.fixture(params=["en", "ja"])
def page(request: pytest.FixtureRequest, reported: Reported) -> Page:
    """A page with everything on it."""
    batch = reported.settle(reported.accept(ROWS), everything)
    facts = reported.facts(batch, timeline=POINTS, warnings=[FileWarning("trimmed", "customer_id", 3, 2)])
    return Page(reported.write(batch, facts=facts, lang=request.param, excel_safe=True)["html"])


def test_the_page_stands_alone(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "form", "base", "image", "use"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert not {"src", "srcset", "action", "xlink:href"} & set(attributes)
        target = attributes.get("href")
        assert target is None or target.startswith("#") or re.fullmatch(r"[a-z.-]+\.(csv|json|xlsx)", target)
    assert not re.search(r"url\(|@import|https?:", page.source)
    policy = next(found["content"] for tag, found in page.elements if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_every_link_has_its_file(page: Page, reported: Reported) -> None:
    targets = {found["href"] for tag, found in page.elements if tag == "a"}
    ids = {f"#{found['id']}" for _, found in page.elements if "id" in found}
    files = {target for target in targets if not target.startswith("#")}
    assert targets - files <= ids
    folder = reported.ours.lists_folder / "1"
    assert files == {path.name for path in folder.iterdir()} - {"report.html", "manifest.json"}


def test_the_verdict_is_the_first_line_and_the_title(reported: Reported) -> None:
    page = Page(reported.report(ROWS, everything)["html"])
    assert page.of("h1") == ["2 of 8 created; 1 skipped; 5 need attention"]
    assert page.of("title")[0].startswith("2 of 8 created; 1 skipped; 5 need attention")
    assert page.texts.index(("h1", page.of("h1")[0])) < page.texts.index(("h2", page.of("h2")[0]))


def test_headings_are_in_order_and_every_section_has_a_name(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    for tag, found in page.elements:
        assert tag != "section" or found["aria-labelledby"] in ids
        assert found.get("aria-labelledby", ids[0]) in ids
    tags = [tag for tag, _ in page.elements]
    assert [tags.count(landmark) for landmark in ("header", "main", "footer")] == [1, 1, 1]


def test_the_books_stand_with_their_sum(reported: Reported) -> None:
    page = Page(reported.report(ROWS, everything)["html"])
    for words in ("created 2", "skipped 1", "invalid 1", "refused 3", "unclear 1", "open 0", "file 8"):
        assert words in page.text
    assert "Reconciled" in page.text


def test_to_do_is_by_kind_of_work_and_begins_with_whom_to_call(reported: Reported) -> None:
    page = Page(reported.report(ROWS, everything)["html"])
    assert page.of("h3")[:3] == ["Contact the customers", "Correct the rows", "Decide whether there is a source"]
    titles = page.of("h4")
    assert titles[0] == "The password is wrong"
    assert set(titles[1:3]) == {"A value is not accepted: extra.x", "Unknown payment method: payment_method"}
    assert titles[3] == "Answer lost"


def test_rows_of_each_kind_stand_with_their_customers_and_references(reported: Reported) -> None:
    paths = reported.report(ROWS, everything)
    text = Page(paths["html"]).text
    listed = text[text.index("Rows that need attention") : text.index("Rows by reason")]
    references = {row["customer_id"]: row["onboarding_ref"] for row in cells(paths["results"])}
    places = [listed.index(customer) for customer in ("cus_2", "cus_3", "cus_4", "cus_7", "cus_5")]
    assert places == sorted(places), "to be called, corrected, decided"
    assert all(references[f"cus_{number}"] in listed for number in (2, 3, 4, 5))


def test_what_is_known_with_other_content_needs_nobody_and_stands_by_itself(reported: Reported) -> None:
    paths = reported.report(HEADER + "cus_1,creditcard,ios,a\ncus_1,creditcard,ios,b\n")
    page = Page(paths["html"])
    assert "no row needs attention" in page.text
    assert "Rows that need attention" not in page.text
    assert "cus_1" in page.text[page.text.index("Known with other content") :]
    assert not cells(paths["failures"])
    summary = json.loads(paths["summary"].read_bytes())
    assert (summary["to_do"], summary["changed"][0]["rows"]) == ([], 1)


def test_a_batch_that_stands_still_asks_for_itself_and_not_for_the_rows_that_wait(reported: Reported) -> None:
    def decide(row: LeasedRow) -> Outcome | None:
        return answer(row, RowState.UNCLEAR, code="read_timeout", not_before=9e9) if row.record == 1 else None

    batch = reported.settle(reported.accept(HEADER + "cus_1,creditcard,ios,a\ncus_2,creditcard,ios,a\n"), decide)
    running = Page(reported.write(batch)["html"]).text
    assert "1 row is sent by itself." in running
    assert "1 row whose outcome is unclear is looked up at elepay by itself." in running
    reported.ledger.lifecycle.pause(batch.id, Stop(StopCode.PERSON, {"who": "kaz", "batch": batch.id}))
    paths = reported.write(batch)
    paused = Page(paths["html"]).text
    assert "The batch stands still. To let it go on, type onboard resume 1" in paused
    assert "1 row is sent once the batch goes on" in paused
    assert "Rows that need attention" not in paused
    assert not cells(paths["failures"])


def test_masked_customers_are_on_no_page_and_in_no_workbook_but_in_the_files(reported: Reported) -> None:
    customer = "cus_3kQ9xV7mZ1a1b2"
    text = (
        HEADER.strip()
        + f",reference\n{customer},creditcard,ios,Sato Hanako,order-7781234\ncus 12345678,paypay,web,a,\n"
    )
    batch = reported.settle(reported.accept(text), refused())
    paths = reported.write(batch, facts=reported.facts(batch, mask_customers=True))
    page = paths["html"].read_text("utf-8")
    assert "cus_…a1b2" in page
    with zipfile.ZipFile(paths["xlsx"]) as archive:
        book = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".xml"))
    assert "cus_…a1b2" in book
    reference = cells(paths["failures"])[0]["onboarding_ref"]
    for secret in (customer, reference, "Sato", "order-7781234", "12345678"):
        assert secret not in page
        assert secret not in book
        assert secret in paths["failures"].read_text("utf-8")


def test_commands_can_be_typed_as_they_stand_where_the_batch_was_started(reported: Reported) -> None:
    """In the folder of the reports `onboard run failures.csv` would begin another ledger, and know of no source."""
    paths = reported.report(ROWS, everything)
    typed = Page(paths["html"]).of("code")
    assert f"onboard run {paths['failures']}" in typed
    assert typed.count(f"onboard run {paths['failures']}") == 1, "once for all rows, not once a reason"
    assert "onboard resolve 1" in typed


def test_charts_have_the_same_in_words(page: Page) -> None:
    image = next(found for _, found in page.elements if found.get("role") == "img")
    assert image["aria-labelledby"] == "timeline-words"
    assert any(found.get("id") == "timeline-words" for _, found in page.elements)
    assert page.charts
    assert all(page.charts), "every shape is hidden from readers of words; what it shows stands beside it"
    assert page.of("figcaption")


EVIL = "<script>alert(1)</script><b onmouseover=x>\"'&amp;{{7*7}}"


def test_nothing_of_a_file_or_of_elepay_is_mark_up(reported: Reported) -> None:
    cell = '"' + EVIL.replace('"', '""') + '"'
    text = f"customer_id,payment_method,resource,{cell}\n{cell},{cell},{cell},{cell}\ncus_1,creditcard,ios,a\n"

    def evil(row: LeasedRow) -> Outcome:
        return answer(row, RowState.REFUSED, code=EVIL, parameter=EVIL, request_id=EVIL)

    batch = reported.settle(reported.accept(text, name="<script>alert(1)<b>.csv".replace("/", "")), evil)
    facts = reported.facts(
        batch,
        parent=EVIL,
        versions={EVIL: EVIL},
        warnings=[FileWarning(EVIL, EVIL, 1, 1, EVIL), FileWarning("trimmed", EVIL, 1, 1, EVIL)],
        batch=reported.ledger.batches.get(batch.id),
    )
    for lang in ("en", "ja"):
        page = Page(reported.write(batch, facts=facts, lang=lang)["html"])
        assert "script" not in [tag for tag, _ in page.elements]
        assert not any("onmouseover" in found for _, found in page.elements)
        in_a_time_or_number = r"[\w:.,-]"
        assert not re.search(f"(?<!{in_a_time_or_number})49(?!{in_a_time_or_number})", page.text.replace(EVIL, ""))
        assert page.source.count("&lt;script&gt;") >= 6


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("state", list(BatchState))
@pytest.mark.parametrize("rows", [0, 1])
def test_every_state_of_a_batch_has_its_verdict(reported: Reported, state: BatchState, lang: str, rows: int) -> None:
    batch = reported.settle(
        reported.accept(HEADER + "cus_1,creditcard,ios,a\n"), lambda row: None if rows else answer(row)
    )
    changed = replace(batch, state=state, stop=Stop(StopCode.CANARY, {"batch": 12}) if rows else None)
    page = Page(reported.write(batch, facts=reported.facts(batch, batch=changed), lang=lang)["html"])
    assert len(page.of("h1")) == 1
    assert "{" not in page.text
    assert not rows or "onboard approve 12" in page.text


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_an_unusable_file_has_a_page_as_well(reported: Reported, lang: str) -> None:
    batch = reported.accept(HEADER + "cus_1,creditcard,ios,a\n")
    stop = stop_of_file(UnusableFile("empty_file", "The file is empty (0 bytes)."))
    unusable = replace(batch, id=0, state=BatchState.UNUSABLE, stop=stop, records=0)
    facts = reported.facts(batch, batch=unusable, counts=RowCounts(0), file_path=None, file_format=None)
    paths = reported.write(unusable, facts=facts, lang=lang)
    assert "results" not in paths
    page = Page(paths["html"])
    assert {"en": "The file is empty", "ja": "ファイルが空です"}[lang] in page.text


def test_a_clean_run_leaves_nothing_to_do(reported: Reported) -> None:
    page = Page(reported.report(HEADER + "cus_1,creditcard,ios,a\ncus_2,creditcard,ios,a\n")["html"])
    assert page.of("h1") == ["All 2 created"]
    assert "no row needs attention" in page.text


def test_long_lists_are_cut_and_say_where_the_rest_stands(reported: Reported) -> None:
    lines = "".join(f"cus_{n},creditcard,ios,a\n" for n in range(300))
    page = Page(reported.report(HEADER + lines, refused())["html"])
    assert "Only the first 100 are listed" in page.text
    assert "Lines 2–301." in page.text
    assert len(page.source) < 200_000


def test_a_long_run_is_shown_in_at_most_a_hundred_steps(reported: Reported) -> None:
    batch = reported.settle(reported.accept(ROWS), everything)
    points = [TimelinePoint(1_800_000_000.0 + n, 20, 0, paused=False) for n in range(50_000)]
    page = Page(reported.write(batch, facts=reported.facts(batch, timeline=points))["html"])
    assert (
        50
        <= len([1 for tag, found in page.elements if tag == "rect" and found.get("class") == "plain" and "y" in found])
        <= 100
    )

"""A morning of two people from end to end, by keyboard only: console and worker as commands, elepay on localhost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from browser import Browser, Page
from consoles import PASSWORD
from factories import Command, Simulator, makes_services, wait_until

from tasks.operations.console_users import add_user

CANARY = 4
#: A file by what becomes of its rows: the canary; refused; invalid; created; then no answer reaches us.
CUSTOMERS = [
    *(f"cus_{number:02d}" for number in range(CANARY)),
    *("missing_1", "missing_2"),
    *("typo_1", "typo_2", "typo_3"),
    *(f"cus_{number:02d}" for number in range(10, 14)),
    *(f"lost_{number:02d}" for number in range(10)),
]
#: How many are sent after the canary before answers begin to be lost.
ANSWERED = 6
WORDS = {
    "en": {
        "checked": "20 of 23 rows can be sent",
        "accepted": "The file is accepted as this batch.",
        "canary": "The canary rows have run",
        "approved": "The batch is approved",
        "decided": "10 rows are decided.",
        "reported": "The reports are written.",
        "corrected": "All 5 rows can be sent",
        "found": "1 row",
        "mended": "5 resolved in batch 2",
        "signed out": "You are signed out.",
    },
    "ja": {
        "checked": "23 件中 20 件を送信できます",
        "accepted": "ファイルをこのバッチとして受け付けました。",
        "canary": "先行送信",
        "approved": "続行を承認しました",
        "decided": "10 件を確定しました。",
        "reported": "レポートを作成しました。",
        "corrected": "全 5 件を送信できます",
        "found": "1 件",
        "mended": "バッチ 2 で解消 5 件",
        "signed out": "ログアウトしました。",
    },
}


class Person:
    """Somebody at a browser of their own, without a mouse."""

    def __init__(self, browser: Browser, url: str, lang: str, downloads: Path, stack: ExitStack) -> None:
        context = stack.enter_context(browser.of_somebody_else(downloads))
        self.page: Page = stack.enter_context(browser.page(url, lang=lang, context=context))
        self.url, self.words, self.downloads = url, WORDS[lang], downloads

    def at(self, selector: str, most: int = 20) -> None:
        """Press Tab until the focus is there."""
        self.page.call("Page.bringToFront")  # only what is in front is drawn, and takes the focus
        self.page.tab_to(selector, most)

    def goes(self, selector: str, most: int = 20) -> None:
        """Press Tab until the focus is there, then Enter, which leads to another page."""
        self.at(selector, most)
        assert self.page.complaints == []
        self.page.follow()

    def reads(self, word: str, seconds: float = 60) -> None:
        """Wait until a page says something, which may take a refreshment or more."""
        wait_until(lambda: word in self.text, seconds, f"“{word}”")

    def hears(self, word: str) -> None:
        """Find the focus on what a screen reader reads first: the answer to what was done."""
        focus = "document.activeElement === document.body ? '' : document.activeElement.innerText"
        wait_until(lambda: word in str(self.page.value(focus)), 30, f"the focus on “{word}”")

    @property
    def text(self) -> str:
        return str(self.page.value("document.body ? document.body.innerText : ''"))

    def types(self, field: str, text: str) -> None:
        """Type into the field that has the focus as soon as the page is there."""
        wait_until(lambda: self.page.value("document.activeElement.name") == field, 30, f"the focus on {field}")
        self.page.type(text)

    def signed_in(self, name: str) -> Self:
        self.types("name", name)
        self.at("input[name=password]", 1)
        self.page.type(PASSWORD)
        self.page.follow()
        assert self.page.value("location.pathname") == "/"
        return self

    def uploads(self, file: Path, said: str) -> None:
        """Choose a file, have it checked, and read what would become of it."""
        self.goes("nav a[href='/upload']")
        self.at("input[type=file]")
        self.page.choose_file(file)
        self.goes("form[action='/upload'] button", 2)
        self.reads(said)
        self.hears(said)

    def approves(self, batch: int) -> None:
        self.goes("nav a[href='/']")
        self.goes(f"ul.batches a[href='/batches/{batch}']")
        self.reads(self.words["canary"])
        self.goes("form[action$='/approve'] button")
        self.hears(self.words["approved"])

    def takes(self, batch: int, report: str) -> Path:
        """Download a report."""
        self.at(f"a[href$='/reports/{report}']", 40)
        self.page.press("Enter")
        file = self.downloads / f"batch-{batch}-{report}.csv"
        wait_until(file.is_file, what="the download")
        return file


@pytest.fixture
def desk(tmp_path: Path, simulator: Simulator, redis_url: str) -> Iterator[tuple[Command, str]]:
    """A console and a worker that run, with two people who may sign in; four eyes are asked for."""
    settings = {"ONBOARD_FOUR_EYES": 1, "ONBOARD_CANARY": CANARY, "ONBOARD_LOOK_UPS": 1}
    command = Command(tmp_path, simulator, REDIS_URL=redis_url, ELEPAY_REQUESTS_PER_SECOND=50, **settings)
    with makes_services(command.home) as services:
        for name, role in {"hana.suzuki": "operator", "taro.yamada": "approver"}.items():
            add_user(services(), name, role, PASSWORD)
        assert services().ledger
    said, log = tmp_path / "said", tmp_path / "log"
    with said.open("w") as file, log.open("w") as errors:
        started = [command.start("worker", stdout=errors.fileno(), stderr=errors.fileno())]
        started += [command.start("console", "--port", "0", stdout=file.fileno(), stderr=errors.fileno())]
        try:
            wait_until(lambda: said.read_text().endswith("\n"), what="the console")
            yield command, re.findall(r"http://127\.0\.0\.1:\d+", said.read_text())[0]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(60)


def file_of(path: Path) -> Path:
    rows = (f"{each},{'creditcart' if 'typo' in each else 'creditcard'},ios,Gold\n" for each in CUSTOMERS)
    path.write_text("customer_id,payment_method,resource,description\n" + "".join(rows), "utf-8")
    return path


def corrected(failures: Path, path: Path) -> Path:
    """What somebody makes of failures.csv in a spreadsheet."""
    path.write_text(failures.read_text("utf-8").replace("creditcart", "creditcard").replace("missing_", "cus_9"))
    return path


@pytest.mark.resilience
@pytest.mark.parametrize("lang", WORDS)
def test_a_morning_by_keyboard_only(
    browser: Browser, desk: tuple[Command, str], simulator: Simulator, tmp_path: Path, lang: str
) -> None:
    command, url = desk
    words = WORDS[lang]
    with ExitStack() as stack:
        names = ("hana.suzuki", "taro.yamada", "hana.suzuki")
        hana, taro, phone = (Person(browser, url, lang, tmp_path, stack).signed_in(name) for name in names)

        hana.uploads(file_of(tmp_path / "customers.csv"), words["checked"])
        hana.goes("form[action$='/send'] button")
        hana.hears(words["accepted"])
        hana.reads(words["canary"])

        lost = {"share": 1.0, "after_creates": ANSWERED}
        simulator.control(commit_then_drop_connection=lost, list_500=1.0, max_faults_per_key=1000)
        taro.approves(1)
        command.until_finished(1)
        simulator.control(commit_then_drop_connection=0.0, list_500=0.0)

        hana.goes("nav a[href='/decide']")
        hana.at("a[href='#decision']")
        hana.page.press("Enter")
        hana.at("input[type=checkbox]", 1)
        hana.page.press(" ")
        hana.at("input[value=created]", 1)
        hana.page.press(" ")
        hana.goes("form[action='/decide'] button", 2)
        hana.hears(words["decided"])

        hana.goes("nav a[href='/batches']")
        hana.goes("ul.batches a[href='/batches/1']")
        hana.goes("form[action$='/report'] button")
        hana.hears(words["reported"])
        failures = hana.takes(1, "failures")
        hana.uploads(corrected(failures, tmp_path / "corrected.csv"), words["corrected"])
        hana.at("input[value=canary]")
        hana.page.press("ArrowDown")
        hana.goes("form[action$='/send'] button", 2)
        taro.approves(2)
        command.until_finished(2)
        hana.goes("nav a[href='/find']")
        hana.types("wanted", "cus_91")
        hana.page.follow()
        hana.hears(words["found"])
        hana.goes("table a[href='/batches/2']", 2)
        hana.goes("form[action$='/report'] button")
        results = hana.takes(2, "results")
        assert results.read_text("utf-8").count(",created,") == 5
        hana.goes("a[href='/batches/1']")
        hana.reads(words["mended"])

        hana.goes("nav a[href='/me']")
        hana.goes("form[action='/sign-out-everywhere'] button")
        hana.hears(words["signed out"])
        phone.page.open(f"{url}/batches")
        assert phone.page.value("location.pathname") == "/sign-in"

    counted = simulator.statistics()["references"]
    assert (counted["total"], counted["doubled_count"]) == (23, 0)

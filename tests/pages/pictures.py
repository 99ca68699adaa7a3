"""Takes the pictures of docs/run/pictures: `make pictures`.

A small ledger is filled beside the simulator, with invented customers and at times that are always the same; the real
console shows it to Chromium. So a picture changes only when the pages do.
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import requests
from browser import Browser, Page
from console_served import Served
from factories import KEY, Simulator, answer, new_worker, program, wait_until
from reported import HEADER, Reported

from tasks.models import LeasedRow, Outcome, RowState, Slice
from tasks.operations import upload_check
from tasks.operations.console_users import add_user
from tests import warm
from worker.console.people import Person, Role

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "run" / "pictures"
LANGUAGES = ("en", "ja")
#: Where the simulator is by default: what the pages show as elepay's address.
PORT = 8700
WIDTH, HEIGHT = 1000, 760
HANA, TARO = Person("hana.suzuki", Role.APPROVER), "taro.yamada"


#: The name of a picture -> the page that it shows, and what stands last on it.
VIEWS = {
    "tonight": ("/", ".advice li"),
    "batch": ("/batches/1", "section:has(.balanced)"),
    "rows": ("/batches/1/rows?state=invalid", "tbody"),
    "decide": ("/decide", "section:has(button.main)"),
    "find": ("/find?wanted=cus_10182", "section"),
    "upload": ("/upload/…", ".advice"),
}


class Clock:
    """The time of this process while pictures are taken: it stands where it is set."""

    def __init__(self) -> None:
        self._now = 0.0

    def set(self, day_and_time: str) -> None:
        """Let it be so late in Tokyo."""
        self._now = datetime.fromisoformat(day_and_time).replace(tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()

    def __call__(self) -> float:
        return self._now


class Night:
    """Files that have been brought, and what elepay made of their rows."""

    def __init__(self, made: Reported, simulator: Simulator) -> None:
        self._made, self._simulator = made, simulator

    def bring(self, name: str, customers: Iterator[str], **rules: object) -> int:
        """Accept a file whose rows are for these customers."""
        lines = "".join(f"{each},会員プラン\n" for each in customers)
        return self._made.accept(HEADER + lines, name, brought_by="watch", **rules).id

    def send(self, batch: int, most: int, becomes: Callable[[LeasedRow], Outcome]) -> None:
        """Send so many rows of a batch."""
        ledger, worker = self._made.ledger, new_worker(self._made.ledger)
        ledger.sampling.end(batch)
        rows = ledger.leases.claim(Slice(batch, 1, most), worker.number)
        worker.mark(rows)
        worker.record(*map(becomes, rows))
        ledger.workers.end(worker.number)
        ledger.lifecycle.close(batch)

    def pause_after_canary(self, batch: int) -> None:
        """Let a batch wait for approval, as the worker does that has sent its canary."""
        assert self._made.ledger.lifecycle.pause_after_canary(batch)

    def created(self, row: LeasedRow) -> Outcome:
        """A row whose source elepay has."""
        return answer(row, source_id=self.source_of(row), latency_ms=48 + row.record % 40)

    def source_of(self, row: LeasedRow) -> str:
        """Make its source at elepay; return its id."""
        body = {"paymentMethod": row.payment_method, "resource": row.resource}
        made = requests.post(
            f"{self._simulator.url}/customers/{row.customer_id}/sources",
            json={**body, "metadata": {"onboarding_ref": row.reference}},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        return str(made.json()["id"])


def customers(first: int, rows: int) -> Iterator[str]:
    """Rows of a file: customer, method, resource; some of them mistyped."""
    typed = {7: "creditcart,ios", 19: "paypay,", 43: "credit card,web", 88: "paypay,andriod"}
    for number in range(rows):
        usual = ("creditcard,ios", "paypay,android", "merpay,web")[number % 3]
        yield f"cus_{first + number},{typed.get(number, usual)}"


def fill(night: Night, clock: Clock) -> None:
    """Bring what the pages are to show."""

    def mostly(row: LeasedRow) -> Outcome:
        if row.record in (52, 97):
            if row.record == 52:
                night.source_of(row)
            return answer(row, RowState.UNCLEAR, code="lost_answer")
        if row.record in (61, 122, 183):
            return answer(row, RowState.REFUSED, code="U003005", request_id=f"req_{row.record:08x}")
        if row.record in (70, 140):
            return answer(row, RowState.REFUSED, code="M002003", request_id=f"req_{row.record:08x}")
        return night.created(row)

    clock.set("2026-12-02 01:00")
    first = night.bring("customers-20261202.csv", customers(10_001, 200))
    night.send(first, 200, mostly)
    clock.set("2026-12-02 08:10")
    second = night.bring("stores-20261202.csv", customers(20_101, 120), canary_rows=20, who=TARO)
    night.send(second, 60, night.created)
    night.pause_after_canary(second)
    clock.set("2026-12-02 08:39:20")
    third = night.bring("apps-20261202.csv", customers(10_171, 300))
    night.send(third, 180, night.created)


@contextmanager
def always_the_same_ids(folder: Path) -> Iterator[None]:
    """Let a simulator that is started now not draw the ids of its sources at random."""
    patch = folder / "same_ids.py"
    patch.write_text("import secrets\nsecrets.randbits = lambda bits: 7**30 % (1 << bits)\n")
    os.environ[warm.PATCH] = str(patch)
    try:
        yield
    finally:
        del os.environ[warm.PATCH]


@contextmanager
def installation(folder: Path, simulator: Simulator, clock: Clock) -> Iterator[Reported]:
    """An installation at whose work a worker is."""
    settings = {"ELEPAY_BASE_URL": simulator.url, "ELEPAY_SECRET_KEY": KEY, "ONBOARD_CANARY": "10"}
    made = Reported(folder, **settings)
    real, time.time = time.time, clock
    try:
        fill(Night(made, simulator), clock)
        add_user(made.ours, HANA.name, HANA.role, "correct horse battery")
        clock.set("2026-12-02 08:40:00")
        new_worker(made.ledger)
        yield made
    finally:
        time.time = real
        made.close()


#: Draws a picture with the colours that it has most, and says which point has which; the page may be any.
_IN_FEW_COLOURS = """
new Promise(done => {
  const image = new Image();
  image.onload = () => {
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, image.width, image.height), seen = new Map(), at = new Map();
    const colours = new Uint32Array(data.buffer), points = new Uint8Array(colours.length);
    for (const each of colours) seen.set(each, (seen.get(each) ?? 0) + 1);
    const parts = colour => [colour & 255, colour >> 8 & 255, colour >> 16 & 255];
    const palette = [...seen].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => parts(colour));
    const far = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
    for (const each of seen.keys()) {
      const own = parts(each);
      at.set(each, palette.reduce((best, colour, n) => far(colour, own) < far(palette[best], own) ? n : best, 0));
    }
    colours.forEach((each, n) => points[n] = at.get(each));
    const reader = new FileReader();
    reader.onload = () => done([image.width, image.height, palette.flat(), reader.result.split(",")[1]]);
    reader.readAsDataURL(new Blob([points]));
  };
  image.src = "data:image/png;base64,PICTURE";
})
"""


def in_few_colours(page: Page, picture: bytes) -> bytes:
    """Return a PNG with a palette: a third as large, and to the eye the same."""
    asked = _IN_FEW_COLOURS.replace("PICTURE", base64.b64encode(picture).decode())
    width, height, palette, encoded = page.promised(asked)
    points = base64.b64decode(encoded)
    lines = b"".join(b"\0" + points[at : at + width] for at in range(0, len(points), width))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": bytes(palette),
        b"IDAT": zlib.compress(lines, 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def take(browser: Browser, target: Path, port: int = PORT) -> None:
    """Take every picture, in every language."""
    clock = Clock()
    clock.set("2026-12-02 00:00")
    with (
        tempfile.TemporaryDirectory() as folder,
        always_the_same_ids(Path(folder)),
        Simulator(port=port) as simulator,
        installation(Path(folder), simulator, clock) as made,
        Served(made.ours, HANA) as served,
    ):
        uploaded = checked_upload(made, served)
        for name, (path, last) in VIEWS.items():
            for lang in LANGUAGES:
                address = served.url + path.replace("/upload/…", uploaded)
                with browser.page(address, width=WIDTH, height=HEIGHT, lang=lang) as page:
                    picture = page.picture(last)
                with browser.page("about:blank") as page:
                    (target / f"{name}-{lang}.png").write_bytes(in_few_colours(page, picture))


def checked_upload(made: Reported, served: Served) -> str:
    """Upload a file that is partly known and partly wrong; return the page that says so."""
    content = HEADER + "".join(f"{each},会員プラン\n" for each in customers(10_181, 60))
    sent = requests.post(
        f"{served.url}/upload", files={"file": ("new-members.csv", content)}, headers=served.headers(), timeout=60
    )
    path = sent.url.removeprefix(served.url)
    wait_until(lambda: "data-every" not in served.get(path).text, what="the check")
    folder = made.ours.settings.home / "uploads" / path.rpartition("/")[2]
    task = (folder / "new-members.csv", folder / "check.pickle", made.ours.settings)
    upload_check.main(io.BytesIO(pickle.dumps(task)))  # once more, by the clock of this process
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as profile:
        chromium = Browser(program("chromium", "chromium-browser", "google-chrome"), Path(profile))
        try:
            FOLDER.mkdir(exist_ok=True)
            take(chromium, FOLDER)
        finally:
            chromium.close()

"""A file from the form to its batch: checked first, sent only when somebody says so, bounded in size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from console_served import OPERATOR, VIEWER, Served, file_of
from factories import wait_until
from reported import Reported

from tasks.operations import uploads

Console = Callable[..., Served]


def uploaded(served: Served, content: str | bytes, name: str = "customers.csv", lang: str = "en") -> Any:
    """Upload a file and wait for what the check says of it."""
    answer = requests.post(
        f"{served.url}/upload", files={"file": (name, content)}, headers=served.headers(lang), timeout=60
    )
    ends = time.monotonic() + 60
    while answer.ok and 'data-every="1"' in answer.text:
        assert time.monotonic() < ends
        time.sleep(0.2)
        answer = served.get(answer.url.removeprefix(served.url), lang)
    return answer


def test_a_file_is_checked_seen_and_sent_as_a_canary(reported: Reported, console: Console) -> None:
    served = console(OPERATOR)
    page = uploaded(served, file_of(40))
    assert "38 of 40 rows can be sent" in page.text
    assert page.text.count("<mark>creditcart</mark>") == 2
    assert reported.ledger.batches.newest() == []
    path = page.url.removeprefix(served.url)
    answer = served.post(f"{path}/send", how="canary", canary="7")
    wait_until(lambda: served.get(path).url.partition("?")[0].endswith("/batches/1"), 60, "the batch")
    assert answer.status_code == 200
    batch = reported.ledger.batches.get(1)
    assert (batch.name, batch.brought_by, batch.records, batch.canary > 0) == ("customers.csv", "console", 40, True)
    assert served.post(f"{path}/send", how="all").status_code == 409
    refreshed = served.get(path, refreshed=True)
    assert refreshed.headers["HX-Redirect"] == "/batches/1?said=accepted", "a part of another page is not put into it"
    assert len(reported.ledger.batches.newest()) == 1


def test_a_second_check_says_what_is_known_already(reported: Reported, console: Console, night: int) -> None:
    page = uploaded(console(), file_of(60), lang="ja").text
    assert f"バッチ {night}" in page
    assert "対象外" in page


def test_a_file_that_cannot_be_used_says_why(reported: Reported, console: Console) -> None:
    page = uploaded(console(), "a;b\n1;2\n").text
    assert "customer_id" in page
    assert "/send" not in page
    assert reported.ledger.batches.newest() == []


def test_a_viewer_uploads_nothing(reported: Reported, console: Console) -> None:
    answer = uploaded(console(VIEWER), file_of(2))
    assert answer.status_code == 403
    assert not (reported.ours.settings.home / "uploads").exists()


def test_an_upload_that_is_too_large_is_refused_while_it_arrives(reported: Reported, console: Console) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        while sent < 500_000_000:
            sent += 10_000
            yield b"a" * 10_000

    with _Either():
        served = console()
        answer = requests.post(
            f"{served.url}/upload",
            data=endless(),
            headers=served.headers(**{"Content-Type": "multipart/form-data; boundary=x"}),
            timeout=60,
        )
        assert answer.status_code == 413
    assert sent < 100_000_000
    assert kept(reported) == []


class _Either:
    """Whether the answer is read, or the connection is gone before it is."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, *_: object) -> bool:
        return kind is not None and issubclass(kind, requests.ConnectionError)


def kept(reported: Reported) -> list[str]:
    folder = reported.ours.settings.home / "uploads"
    return [str(path) for path in folder.rglob("*")] if folder.exists() else []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"a"),
        ("multipart/form-data", b"a"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\na\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nbroken off',
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: " + b"a" * 100_000 + b"\r\n\r\na\r\n--x--\r\n",
        ),
    ],
    ids=["no form", "no boundary", "no part", "no file", "broken off", "endless header"],
)
def test_what_is_no_upload_is_refused_and_not_kept(
    reported: Reported, console: Console, kind: str, body: bytes
) -> None:
    served = console()
    answer = requests.post(
        f"{served.url}/upload", data=body, headers=served.headers(**{"Content-Type": kind}), timeout=60
    )
    assert answer.status_code == 400
    assert kept(reported) == []


@pytest.mark.parametrize(
    ("name", "kept_as"),
    [
        ("../../evil.csv", "evil.csv"),
        ("..\\evil.csv", "evil.csv"),
        ("/etc/passwd", "passwd"),
        (".hidden", "hidden"),
        ("check.pickle", "upload.csv"),
        ("a\x00b.csv", "ab.csv"),
        ("..", "upload.csv"),
        ("あ" * 300, "あ" * 66),
    ],
)
def test_the_name_of_an_upload_leads_nowhere(
    reported: Reported, name: str, kept_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "true")  # what would check it takes a second to start, and is not asked here
    with uploads.receive(reported.ours, name, who="taro@desk") as (token, target):
        target.write(file_of(2).encode())
    assert (reported.ours.settings.home / "uploads" / token / kept_as).read_text("utf-8") == file_of(2)
    assert uploads.find(reported.ours, token).name == kept_as


def test_an_upload_is_discarded(reported: Reported, console: Console) -> None:
    served = console()
    page = uploaded(served, file_of(2))
    assert "nothing was sent" in served.post(f"{page.url.removeprefix(served.url)}/discard").text
    assert served.get(page.url.removeprefix(served.url)).status_code == 404
    assert [path for path in kept(reported) if path.endswith(".csv")] == []

"""What a request must be to reach a page: attacks with what stops each."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from consoles import PASSWORD, Browser, asked, raw, served, signed_up, status_of

from tasks.services import Services
from worker.console.safety import body_limits, request_heads
from worker.console.safety.request_checks import is_loopback


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with signed_up(tmp_path, {"hana": "approver"}, ONBOARD_CONSOLE_UPLOAD_MEGABYTES="3") as services:
        yield services


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    with served(services) as address:
        yield address


@pytest.fixture
def hana(url: str) -> Browser:
    browser = Browser(url)
    assert browser.sign_in("hana").status_code == 303
    return browser


# ------------------------------------------------------------------------------------------------- forms from elsewhere


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_a_form_from_another_site_does_nothing(hana: Browser, headers: dict[str, str]) -> None:
    answer = hana.session.post(f"{hana.url}/sign-out-everywhere", headers=headers, allow_redirects=False, timeout=30)
    assert answer.status_code == 403
    assert hana.is_signed_in, "nothing was done"


def test_an_origin_that_says_ours_does_not_outweigh_a_site_that_does_not(hana: Browser) -> None:
    answer = hana.post("/sign-out-everywhere", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert hana.is_signed_in


def test_another_port_of_this_machine_is_another_site(hana: Browser) -> None:
    answer = hana.post("/sign-out", headers={"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_there_are_no_methods_but_those_of_pages_and_forms(url: str, method: str) -> None:
    assert status_of(raw(url, asked(method=method))) in (400, 405)


# ---------------------------------------------------------------------------------------------------------- the name


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "review.example.jp.evil.example",
        "localhost@evil.example", "0.0.0.0", "[::2]", "", "localhost:80:80", "review.example.jp:444",
    ],
)  # fmt: skip
def test_a_name_that_leads_here_is_not_ours(url: str, host: str) -> None:
    answer = raw(url, asked(host=host))
    assert status_of(answer) in (400, 421)
    assert b"<html" not in answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8140", "127.0.0.1:9", "[::1]:8140", "review.example.jp"])
def test_our_names_are_ours(url: str, host: str) -> None:
    assert status_of(raw(url, asked("/sign-in", host=host))) == 200


def test_two_hosts_are_none(url: str) -> None:
    assert status_of(raw(url, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")) in (400, 421)


def test_loopback_is_what_is_written_as_such() -> None:
    assert not any(map(is_loopback, ["127.0.0.2", "a@localhost", "localhost/", "localhost?", "[::1", "localhost:x"]))


# -------------------------------------------------------------------------------------------------------- the answers


@pytest.mark.parametrize("path", ["/", "/sign-in", "/no-such-page", "/static/console.css", "/static/../app.py"])
def test_every_answer_says_what_browsers_may_do_with_it(hana: Browser, path: str) -> None:
    headers = hana.get(path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
    assert headers["cache-control"] == "no-store" or path.startswith("/static")
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../people.py", "/static/%2e%2e/people.py", "/static/..%2fpeople.py", "/static/%2e%2e%2fpeople.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..%5cpeople.py", "/static/console.css%00.py",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(url: str, path: str) -> None:
    answer = raw(url, asked(path))
    assert status_of(answer) in (303, 400, 404)
    assert b"import" not in answer
    assert b"root:" not in answer


def test_an_error_shows_nothing_of_the_program(
    services: Services, url: str, hana: Browser, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    services.ledger.close()
    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    answer = hana.get("/?q=cus_secret")
    assert answer.status_code >= 400
    assert not any(word in answer.text for word in ("Traceback", "sqlalchemy", ".py", str(tmp_path)))
    logged = "".join(capfd.readouterr())
    cookie = next(iter(hana.session.cookies)).value
    assert not any(word in logged for word in ("cus_secret", PASSWORD, str(cookie)))


def test_what_a_page_raises_is_neither_shown_nor_logged(
    hana: Browser, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("cus_secret of Yamada Hanako")

    monkeypatch.setattr("worker.console.pages.find.find_rows", fails)
    answer = hana.get("/find?wanted=cus_asked")
    assert answer.status_code == 500
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    logged = "".join(capfd.readouterr())
    assert "page failed" in logged
    assert not any(word in answer.text + logged for word in ("cus_secret", "Yamada", "Traceback"))
    assert "cus_asked" not in logged


# --------------------------------------------------------------------------------------------------------- the bodies


def form(path: str, length: int | str, kind: str = "application/x-www-form-urlencoded") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        ("application/x-www-form-urlencoded", body_limits.FORM_BYTES + 1),
        ("multipart/form-data; boundary=b", body_limits.FORM_BYTES + 1),
        ("multipart/form-data; boundary=b", "x"),
        ("multipart/form-data; boundary=b", 10**40),
    ],
)
def test_a_body_that_says_it_is_too_large_is_not_read(url: str, kind: str, length: int | str) -> None:
    assert status_of(raw(url, form("/sign-in", length, kind))) in (400, 413)


def test_a_file_that_says_it_is_too_large_is_not_read(url: str, hana: Browser) -> None:
    cookie = next(iter(hana.session.cookies))
    request = form("/upload", 4 << 20, "multipart/form-data; boundary=b")
    request = request.replace(b"Connection", f"Cookie: {cookie.name}={cookie.value}\r\nConnection".encode(), 1)
    assert status_of(raw(url, request)) == 413


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/sign-in", "application/x-www-form-urlencoded"),
        ("/sign-in", "multipart/form-data; boundary=b"),
        ("/upload", "multipart/form-data; boundary=b"),
    ],
    ids=["form", "parts", "file"],
)
def test_a_body_that_never_ends_is_cut_off_and_fills_no_memory(
    url: str, hana: Browser, tmp_path: Path, path: str, kind: str
) -> None:
    parts, cookie = urlsplit(url), next(iter(hana.session.cookies))
    head = form(path, 0, kind).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    head = head.replace(b"Connection", f"Cookie: {cookie.name}={cookie.value}\r\nConnection".encode(), 1)
    sent = 0
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.settimeout(20)
        connection.sendall(head)
        field = b'name="file"; filename="a.csv"' if path == "/upload" else b'name="name"'
        first = b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n" % field if "multipart" in kind else b"name="
        connection.sendall(b"%x\r\n%s\r\n" % (len(first), first))
        piece = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        try:
            while sent < 64 << 20:
                connection.sendall(piece)
                sent += 65536
        except OSError:
            pass
    assert sent < 32 << 20, "the console has closed the connection"
    assert Browser(url).get("/sign-in").status_code == 200
    assert list(tmp_path.glob("uploads/*/*.csv*")) == []


def test_a_body_that_does_not_come_is_not_waited_for(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        body_limits.BoundedBodies.__init__, "__kwdefaults__", {"form_seconds": 1.0, "file_seconds": 2.0}
    )
    with served(services) as url:
        started = time.monotonic()
        assert status_of(raw(url, form("/sign-in", 100) + b"name=", seconds=20)) == 408
        assert time.monotonic() - started < 10
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port)) as connection:  # a byte now and then
            connection.settimeout(0.5)
            connection.sendall(form("/sign-in", 3000, "multipart/form-data; boundary=b"))
            connection.sendall(b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n')
            answer = b""
            while not answer and time.monotonic() - started < 30:
                connection.sendall(b"-")
                try:
                    answer = connection.recv(1000)
                except TimeoutError:
                    continue
        assert status_of(answer) == 408


@pytest.mark.parametrize("begun", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_head_that_does_not_come_is_not_waited_for(
    services: Services, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(request_heads, "HEAD_SECONDS", 0.5)
    with served(services) as url:
        started = time.monotonic()
        assert raw(url, begun, seconds=20) == b""
        assert 0.4 < time.monotonic() - started < 10
        with opened(url) as connection:  # a later request of a connection that has had its answer, byte by byte
            connection.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            started = time.monotonic()
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /")
                while time.monotonic() - started < 20:
                    connection.sendall(b"a")
                    time.sleep(0.05)
        assert 0.4 < time.monotonic() - started < 10


def test_a_slow_body_is_no_slow_head(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_heads, "HEAD_SECONDS", 0.5)
    with served(services) as url, opened(url) as connection:
        connection.sendall(form("/sign-in", 9).replace(b"Connection: close\r\n", b""))
        time.sleep(1)
        connection.sendall(b"name=nobo")
        assert connection.recv(65536).startswith(b"HTTP/1.1 403")


def test_a_thousand_silent_connections_lock_nobody_out(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_heads, "HEAD_SECONDS", 3.0)
    with served(services) as url, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(opened(url)) for _ in range(1000)]
        for connection in silent[::2]:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert Browser(url).get("/sign-in").status_code == 200
        ended = 0
        for connection in silent:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
            ended += 1
        assert ended == 1000
        assert Browser(url).get("/sign-in").status_code == 200


def opened(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), 30)


def test_a_form_of_many_fields_or_files_is_refused(hana: Browser) -> None:
    many = {f"f{at}": "1" for at in range(50)}
    assert hana.post("/sign-in", many).status_code == 400
    assert hana.post("/sign-in", None, files={"a": b"1"}).status_code == 400

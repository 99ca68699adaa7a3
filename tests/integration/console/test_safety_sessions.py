"""Who somebody is: passwords, sessions, and what a thief or a guesser gets."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from consoles import PASSWORD, Browser, asked, raw, running, served, signed_up
from factories import Command, Simulator, makes_services
from sqlalchemy import select, update

from tasks.errors import SettingsError
from tasks.ledger.schema import console_sessions
from tasks.operations import console_users
from tasks.operations.console_users import add_user, change_user, list_users, remove_user
from tasks.services import Services
from worker.console.safety.attempts import FORGOTTEN_AFTER_SECONDS, FREE_OF_NAME, LONGEST_WAIT_SECONDS, Attempts
from worker.console.safety.password_sign_in import safe_path

COOKIE = "onboard_session"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with signed_up(tmp_path, {"hana": "approver", "jiro": "viewer"}) as services:
        yield services


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    with served(services) as address:
        yield address


def signed_in(url: str, name: str = "hana") -> Browser:
    browser = Browser(url)
    assert browser.sign_in(name).status_code == 303
    assert browser.is_signed_in
    return browser


def sessions(services: Services) -> list[bytes]:
    with services.ledger.engine.read() as connection:
        return [bytes(digest) for digest in connection.execute(select(console_sessions.c.digest)).scalars()]


def history(services: Services) -> list[tuple[str, str | None]]:
    return [(line["what"], line["who"]) for line in services.ledger.history.lines(0)]


def test_without_a_session_no_page_is_shown_and_nothing_is_done(url: str) -> None:
    browser = Browser(url)
    answer = browser.get("/batches?state=running")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/batches")
    assert browser.post("/sign-out-everywhere").status_code == 401


def test_the_ledger_holds_a_digest_and_the_cookie_is_for_this_browser_only(services: Services, url: str) -> None:
    answer = Browser(url).sign_in("HANA")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=43200"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie, "loopback has no certificate"
    secret = answer.cookies[COOKIE]
    assert len(secret) >= 43
    assert sessions(services) == [hashlib.sha256(secret.encode()).digest()]
    assert history(services) == [("signed in: password", "hana")]


def test_behind_an_encrypted_name_the_cookie_is_secure_and_bound_to_the_host(url: str) -> None:
    body = f"name=hana&password={PASSWORD.replace(' ', '+')}"
    request = asked(
        "/sign-in",
        "review.example.jp",
        "POST",
        Origin="https://review.example.jp",
        Content_Type="application/x-www-form-urlencoded",
        Content_Length=str(len(body)),
    )
    answer = raw(url, request + body.encode()).decode()
    cookie = next(line for line in answer.splitlines() if line.lower().startswith("set-cookie"))
    assert cookie.lower().startswith("set-cookie: __host-onboard=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


def test_a_session_that_somebody_planted_is_not_taken_over(services: Services, url: str) -> None:
    """Session fixation: the victim signs in with a cookie that the attacker knows."""
    browser = Browser(url)
    browser.session.cookies.set(COOKIE, "planted", domain="127.0.0.1")
    answer = browser.sign_in("hana")
    assert answer.cookies[COOKIE] != "planted"
    thief = Browser(url)
    thief.session.cookies.set(COOKIE, "planted", domain="127.0.0.1")
    assert not thief.is_signed_in
    again = Browser(url).sign_in("hana")
    assert again.cookies[COOKIE] != answer.cookies[COOKIE], "each sign-in is a session of its own"


def test_what_lies_in_the_ledger_is_no_session(services: Services, url: str) -> None:
    signed_in(url)
    for stolen in (sessions(services)[0].hex(), "", "x" * 43, "'; drop table console_sessions; --"):
        thief = Browser(url)
        thief.session.cookies.set(COOKIE, stolen, domain="127.0.0.1")
        assert not thief.is_signed_in


def test_signing_out_ends_the_session_also_for_who_has_stolen_it(url: str) -> None:
    hana, other_machine = signed_in(url), signed_in(url)
    thief = Browser(url)
    thief.session.cookies.update(hana.session.cookies)
    assert thief.is_signed_in, "until it is ended"
    assert hana.post("/sign-out").status_code == 303
    assert not thief.is_signed_in
    assert other_machine.is_signed_in
    assert other_machine.post("/sign-out-everywhere").status_code == 303
    assert not other_machine.is_signed_in


def test_signing_out_everywhere_ends_no_session_of_others(services: Services, url: str) -> None:
    hana, second, jiro = signed_in(url), signed_in(url), signed_in(url, "jiro")
    hana.post("/sign-out-everywhere")
    assert (second.is_signed_in, jiro.is_signed_in) == (False, True)
    assert history(services)[-1] == ("signed out everywhere", "hana")


def test_a_session_ends_after_twelve_hours(services: Services, url: str) -> None:
    hana = signed_in(url)
    with services.ledger.engine.write() as connection:
        left = connection.execute(select(console_sessions.c.ends_at)).scalar_one() - services.ledger.now()
        assert 0 <= 12 * 3600 - left < 60
        connection.execute(update(console_sessions).values(ends_at=services.ledger.now() - 1))
    assert not hana.is_signed_in


def test_who_is_removed_or_gets_another_role_or_password_is_signed_out(services: Services, url: str) -> None:
    for change in (
        lambda: change_user(services, "hana", who="admin", role="viewer"),
        lambda: change_user(services, "hana", who="admin", password=PASSWORD + "!"),
        lambda: remove_user(services, "HANA", who="admin"),
    ):
        browser = Browser(url)
        browser.sign_in("hana")
        if not browser.is_signed_in:
            browser.sign_in("hana", PASSWORD + "!")
        assert browser.is_signed_in
        assert change() == 1
        assert not browser.is_signed_in
    assert Browser(url).sign_in("hana").status_code == 403


def test_a_thousand_attempts_are_a_handful_of_guesses(
    services: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed: list[str] = []
    verify = console_users.user_with_password

    def counted(services: Services, name: str, password: str) -> object:
        guessed.append(password)
        return verify(services, name, password)

    monkeypatch.setattr("worker.console.safety.password_sign_in.user_with_password", counted)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: Browser(url).sign_in("hana", f"guess number {at}").status_code, range(1000)))
    assert set(answers) == {403, 429}
    assert len(guessed) <= FREE_OF_NAME + 3 + (time.monotonic() - started) / 8
    waiting = Browser(url).sign_in("hana")
    assert waiting.status_code == 429, "the right password waits, too: who guesses learns nothing"
    assert int(waiting.headers["retry-after"]) > 0
    assert ("sign-in refused", "hana") in history(services)


def test_names_that_nobody_has_are_slowed_down_by_address(url: str) -> None:
    answers = [Browser(url).sign_in(f"nobody {at}").status_code for at in range(40)]
    assert answers.count(403) <= 25
    assert answers[-1] == 429


@pytest.mark.resilience
def test_a_thousand_attempts_at_several_consoles_are_counted_together_and_after_a_start(
    tmp_path: Path, reset_simulator: Simulator
) -> None:
    onboard = Command(tmp_path, reset_simulator)
    with makes_services(onboard.home) as made:
        add_user(made(), "hana", "approver", PASSWORD)
    started, answers = time.monotonic(), []
    for consoles in (2, 1):
        with ExitStack() as stack:
            urls = [stack.enter_context(running(onboard, "--port", "0")) for _ in range(consoles)]
            with ThreadPoolExecutor(8) as pool:
                guesses = [(urls[at % consoles], f"guess number {at}") for at in range(500)]
                answers += list(
                    pool.map(lambda guess: Browser(guess[0]).sign_in("hana", guess[1]).status_code, guesses)
                )
            assert Browser(urls[0]).sign_in("hana").status_code == 429, "the right password waits, too"
    assert set(answers) == {403, 429}
    assert answers.count(403) <= FREE_OF_NAME + 3 + (time.monotonic() - started) / 8


def test_waiting_grows_and_ends_and_a_success_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    attempts = Attempts(tmp_path / "attempts", lambda: now[0])
    waits = []
    for _ in range(30):
        while (wait := attempts.seconds_to_wait("hana", "10.0.0.1")) > 0:
            waits.append(wait)
            now[0] += wait
    assert waits == sorted(waits)
    assert max(waits) == LONGEST_WAIT_SECONDS
    now[0] += LONGEST_WAIT_SECONDS
    assert attempts.seconds_to_wait("hana", "10.0.0.1") == 0
    attempts.succeeded("hana", "10.0.0.1")
    assert attempts.seconds_to_wait("hana", "10.0.0.2") == 0
    monkeypatch.setattr("worker.console.safety.attempts.MOST_KEYS", 50)
    for at in range(100):
        attempts.seconds_to_wait(f"n{at}", f"a{at}")
    assert remembered(tmp_path / "attempts") == 50
    assert b"hana" not in (tmp_path / "attempts").read_bytes(), "somebody may have typed a password there"


def remembered(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        (count,) = file.execute("select count(*) from failures").fetchone()
        return int(count)


def test_a_clock_that_is_set_locks_nobody_out(tmp_path: Path) -> None:
    now = [1e9]
    attempts = Attempts(tmp_path / "attempts", lambda: now[0])
    while not attempts.seconds_to_wait("hana", "10.0.0.1"):
        pass
    now[0] -= 86_400
    assert 0 < attempts.seconds_to_wait("hana", "10.0.0.1") <= LONGEST_WAIT_SECONDS
    now[0] += 86_400 + FORGOTTEN_AFTER_SECONDS
    assert attempts.seconds_to_wait("hana", "10.0.0.1") == 0


def test_mistakes_of_many_weeks_do_not_add_up_and_waiting_for_that_gains_no_guess(tmp_path: Path) -> None:
    now = [0.0]
    attempts = Attempts(tmp_path / "attempts", lambda: now[0])
    for day in range(200):  # somebody mistypes each morning, and another one at the same address gets in
        assert attempts.seconds_to_wait(f"user{day}", "10.0.0.1") == 0
        assert attempts.seconds_to_wait("hana", "10.0.0.1") == 0
        attempts.succeeded("hana", "10.0.0.1")
        now[0] += 86_400

    def guesses(pause_after: int) -> float:
        """Guesses an hour of somebody who rests after so many, until they are forgotten."""
        began, count = now[0], 0
        while now[0] - began < 40 * 3600:
            while (wait := attempts.seconds_to_wait("hana", f"{now[0]}")) > 0:
                now[0] += wait
            count += 1
            now[0] += FORGOTTEN_AFTER_SECONDS if count % pause_after == 0 else 0
        return count / 40

    assert max(map(guesses, (4, 8, 12, 16, 10_000))) < 13


def test_the_file_of_passwords_is_its_owners_and_holds_digests(services: Services) -> None:
    path = console_users.file_of(services)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert text.count("$argon2id$") == 2
    assert PASSWORD not in text
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        list_users(services)
    path.chmod(0o600)
    for name, password in (("ＨＡＮＡ", PASSWORD), ("x", "short"), ("", PASSWORD), ("a\tb", PASSWORD)):
        with pytest.raises(SettingsError):
            add_user(services, name, "viewer", password)


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb", "", None]
)
def test_nobody_is_sent_elsewhere_after_signing_in(url: str, path: str | None) -> None:
    assert safe_path(path) == "/"
    answer = Browser(url).sign_in("hana", next=path or "")
    assert answer.headers["location"] == "/"


def test_nothing_that_is_typed_and_no_secret_is_logged(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    typed = "a password in the wrong field"
    for name, password in ((typed, "hana"), ("hana", typed), ("hana", PASSWORD)):
        answer = Browser(url).sign_in(name, password, next="/find?wanted=cus_secret")
    secret = answer.cookies[COOKIE]
    logged = "".join(capfd.readouterr())
    assert "sign-in refused" in logged
    assert "signed in" in logged
    assert not any(word in logged for word in (typed, PASSWORD, secret, "cus_secret"))

"""People who are signed in elsewhere: behind a proxy, and at an OpenID Connect provider."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from consoles import PASSWORD, Browser, asked, raw, served, status_of
from factories import ROOT, Command, Simulator, makes_services
from identity_provider import CLIENT, SECRET, IdentityProvider, provided
from joserfc.jwk import OctKey, RSAKey
from listeners import free_port
from starlette.requests import HTTPConnection

from tasks.errors import SettingsError
from tasks.operations import console_users
from tasks.operations.console_users import add_user
from tasks.services import Services
from worker.console.people import Person, Role
from worker.console.safety.composition import require_safe_start
from worker.console.safety.groups import person_of_groups
from worker.console.safety.proxy import NamedProxies

GROUPS = {
    "ONBOARD_CONSOLE_VIEWERS": "staff",
    "ONBOARD_CONSOLE_OPERATORS": "operations",
    "ONBOARD_CONSOLE_APPROVERS": "leads",
}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    with makes_services(tmp_path) as services:
        yield services


# ------------------------------------------------------------------------------------------------------ behind a proxy


@pytest.fixture
def behind(make: Callable[..., Services]) -> Callable[..., Services]:
    return lambda **settings: make(ONBOARD_CONSOLE_SIGN_IN="proxy", **GROUPS, **settings)


HANA = {"X_Forwarded_User": "hana.suzuki", "X_Forwarded_Groups": "staff,leads"}


def test_the_proxys_word_counts_from_its_address_only(behind: Callable[..., Services]) -> None:
    with served(behind(ONBOARD_CONSOLE_PROXIES="10.9.9.9,10.1.0.0/16")) as url:
        for forged in (
            HANA,
            {**HANA, "X_Forwarded_For": "10.9.9.9"},
            {**HANA, "Forwarded": "for=10.9.9.9"},
            {**HANA, "X_Real_IP": "10.9.9.9"},
        ):
            assert status_of(raw(url, asked(**forged))) == 401
    with served(behind(ONBOARD_CONSOLE_PROXIES="127.0.0.1")) as url:
        assert status_of(raw(url, asked(**HANA))) == 200
        assert status_of(raw(url, asked())) == 401, "without its headers nobody is known"


def test_the_proxys_word_counts_through_its_socket_file(behind: Callable[..., Services], tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with served(behind(ONBOARD_CONSOLE_SOCKET=path), socket_file=path) as address:
        assert status_of(raw(address, asked(**HANA))) == 200
        assert status_of(raw(address, asked())) == 401


@pytest.mark.parametrize(
    ("other_end", "said", "address"),
    [
        ("127.0.0.1", ["10.9.9.9"], "127.0.0.1"),  # nobody of ours says it
        ("10.1.0.5", [], "10.1.0.5"),
        ("10.1.0.5", ["10.9.9.9"], "10.9.9.9"),
        ("::ffff:10.1.0.5", ["10.9.9.9"], "10.9.9.9"),
        ("10.1.0.5", ["1.2.3.4, 10.9.9.9"], "10.9.9.9"),  # what stands before it was said by whoever came
        ("10.1.0.5", ["1.2.3.4", "10.9.9.9, 10.1.0.6"], "10.9.9.9"),  # one proxy of ours behind another
        ("10.1.0.5", ["", " , "], "10.1.0.5"),
    ],
)
def test_where_somebody_comes_from_is_the_word_of_a_named_proxy(
    make: Callable[..., Services], other_end: str, said: list[str], address: str
) -> None:
    headers = [(b"x-forwarded-for", each.encode()) for each in said]
    connection = HTTPConnection({"type": "http", "client": (other_end, 1), "headers": headers})
    assert NamedProxies(make(ONBOARD_CONSOLE_PROXIES="10.1.0.0/16").settings).address(connection) == address


def test_a_name_that_is_sent_twice_is_nobodys(behind: Callable[..., Services]) -> None:
    twice = b"X-Forwarded-User: taro\r\nX-Forwarded-User: hana\r\nX-Forwarded-Groups: leads\r\n"
    request = asked().replace(b"Connection", twice + b"Connection", 1)
    with served(behind(ONBOARD_CONSOLE_PROXIES="127.0.0.1")) as url:
        assert status_of(raw(url, request)) == 401
        two_groups = asked(**HANA).replace(b"Connection", b"X-Forwarded-Groups: staff\r\nConnection", 1)
        assert status_of(raw(url, two_groups)) == 401


@pytest.mark.parametrize("groups", ["", "unknown", "LEADS", "leadsx", "x-leads"])
def test_without_a_group_that_has_a_role_nobody_gets_in(behind: Callable[..., Services], groups: str) -> None:
    with served(behind(ONBOARD_CONSOLE_PROXIES="127.0.0.1")) as url:
        assert status_of(raw(url, asked(X_Forwarded_User="hana", X_Forwarded_Groups=groups))) == 401


def test_the_highest_role_counts_and_a_name_is_a_line(make: Callable[..., Services]) -> None:
    settings = make(**GROUPS).settings
    assert person_of_groups(settings, " hana ", ["staff", "operations"]) == Person("hana", Role.OPERATOR)
    assert person_of_groups(settings, "hana", ["leads", "staff"]) == Person("hana", Role.APPROVER)
    for name in ("", " ", None, 7, "a\nb", "x" * 201):
        assert person_of_groups(settings, name, ["leads"]) is None


def test_a_start_that_would_believe_anybody_is_refused(make: Callable[..., Services], tmp_path: Path) -> None:
    for settings in (
        {"ONBOARD_CONSOLE_SIGN_IN": "proxy", **GROUPS},
        {"ONBOARD_CONSOLE_SIGN_IN": "proxy", "ONBOARD_CONSOLE_PROXIES": "proxy.example.jp", **GROUPS},
        {"ONBOARD_CONSOLE_SIGN_IN": "proxy", "ONBOARD_CONSOLE_PROXIES": "10.0.0.1"},
        {"ONBOARD_CONSOLE_SIGN_IN": "oidc", **GROUPS},
        {"ONBOARD_CONSOLE_PROXIES": "proxy.example.jp"},
    ):
        with pytest.raises(SettingsError):
            require_safe_start(make(**settings), "127.0.0.1")
    for host in ("0.0.0.0", "::", "10.0.0.1", "review.example.jp"):
        with pytest.raises(SettingsError, match="nobody has to sign in"):
            require_safe_start(make(), host)
    for host in ("127.0.0.1", "::1", "localhost"):
        require_safe_start(make(), host)
    services = make()
    add_user(services, "hana", "viewer", PASSWORD)
    require_safe_start(services, "0.0.0.0")
    for url in ("http://review.example.jp", "https://user@review.example.jp", "ftp://localhost"):
        with pytest.raises(SettingsError):
            make(ONBOARD_CONSOLE_URL=url)


def test_without_a_sign_in_everybody_may_only_look_and_the_page_says_so(make: Callable[..., Services]) -> None:
    with served(make()) as url:
        answer = Browser(url).get("/")
        assert answer.status_code == 200
        assert "Nobody is signed in here" in answer.text
        assert Browser(url).post("/sign-in", {"name": "hana", "password": PASSWORD}).status_code in (404, 405)


# ----------------------------------------------------------------------------------------------------- OpenID Connect


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[IdentityProvider]:
    with provided() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: IdentityProvider) -> IdentityProvider:
    fresh = IdentityProvider(shared_provider.issuer, key=shared_provider.key)
    vars(shared_provider).update(vars(fresh))
    return shared_provider


@pytest.fixture
def console(make: Callable[..., Services], provider: IdentityProvider) -> Iterator[str]:
    port = free_port()
    services = make(
        ONBOARD_CONSOLE_SIGN_IN="oidc",
        ONBOARD_CONSOLE_URL=f"http://127.0.0.1:{port}",
        ONBOARD_CONSOLE_OIDC_ISSUER=provider.issuer,
        ONBOARD_CONSOLE_OIDC_CLIENT_ID=CLIENT,
        ONBOARD_CONSOLE_OIDC_CLIENT_SECRET=SECRET,
        **GROUPS,
    )
    with served(services, port=port) as url:
        yield url


def come_back(browser: Browser) -> requests.Response:
    """Follow the link, and let the provider send the browser back."""
    start = browser.get("/sign-in/oidc")
    assert start.status_code == 303, start.text
    at_provider = requests.get(start.headers["location"], allow_redirects=False, timeout=30)
    back = urlsplit(at_provider.headers["location"])
    return browser.get(f"{back.path}?{back.query}")


def test_the_sign_in_begins_by_a_link_and_ends_in_a_session(console: str, provider: IdentityProvider) -> None:
    browser = Browser(console)
    assert 'href="/sign-in/oidc"' in browser.get("/sign-in").text
    answer = come_back(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert browser.is_signed_in
    query = provider.asked[0]
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    assert len(query["state"]) > 40
    assert query["state"] != query["nonce"]
    assert query["redirect_uri"] == f"{console}/sign-in/oidc/return"
    assert "openid" in query["scope"].split()


OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one"}, auto_kid=False)
LIES: dict[str, dict[str, Any]] = {
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "another audience": {"claims": {"aud": "another-console"}},
    "authorized for another": {"claims": {"azp": "another-console"}},
    "over": {"claims": {"exp": int(time.time()) - 3600}},
    "no end": {"claims": {"exp": None}},
    "another nonce": {"claims": {"nonce": "replayed"}},
    "no nonce": {"claims": {"nonce": None}},
    "no subject": {"claims": {"sub": None}},
    "no groups": {"groups": None},
    "groups as text": {"claims": {"groups": "leads"}},
    "no role": {"groups": ["strangers"]},
    "no name": {"claims": {"preferred_username": None}},
    "another key": {"signs_with": OTHER_KEY},
    "a shared secret": {"algorithm": "HS256", "signs_with": OctKey.import_key(SECRET.ljust(32, "x"))},
    "another algorithm": {"algorithm": "RS512"},
    "no signature": {"token": "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0."},
    "no token": {"token": ""},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_does_not_prove_it_lets_nobody_in(console: str, provider: IdentityProvider, lie: str) -> None:
    vars(provider).update(LIES[lie])
    browser = Browser(console)
    answer = come_back(browser)
    assert answer.status_code == 403
    assert not browser.is_signed_in
    assert not any(word in answer.text for word in ("Traceback", "joserfc", "eyJ"))


def test_a_provider_that_names_another_issuer_is_not_believed(console: str, provider: IdentityProvider) -> None:
    provider.named_issuer = "https://evil.example"
    assert Browser(console).get("/sign-in/oidc").status_code == 403


def test_who_did_not_begin_here_does_not_come_back_here(console: str) -> None:
    """Login CSRF: the victim is sent the attacker's code and state."""
    attacker, victim = Browser(console), Browser(console)
    start = attacker.get("/sign-in/oidc")
    back = requests.get(start.headers["location"], allow_redirects=False, timeout=30).headers["location"]
    query = urlsplit(back).query
    assert victim.get(f"/sign-in/oidc/return?{query}").status_code == 403
    victim.get("/sign-in/oidc")
    assert victim.get(f"/sign-in/oidc/return?{query}").status_code == 403
    state = parse_qs(query)["state"][0]
    for broken in ("", "code=x", f"state={state}", "code=x&state=", f"code=x&state={state}&error=denied"):
        assert victim.get(f"/sign-in/oidc/return?{broken}").status_code == 403


def test_a_code_counts_once_and_only_with_the_verifier_of_its_browser(console: str) -> None:
    browser = Browser(console)
    start = browser.get("/sign-in/oidc")
    back = urlsplit(requests.get(start.headers["location"], allow_redirects=False, timeout=30).headers["location"])
    kept = dict(browser.session.cookies)
    name = next(name for name in kept if name.endswith("-oidc"))
    state, nonce, _ = kept[name].split(".")
    other = Browser(console)
    other.session.cookies.set(name, f"{state}.{nonce}.{'v' * 64}", domain="127.0.0.1")
    assert other.get(f"{back.path}?{back.query}").status_code == 403, "PKCE"
    assert browser.get(f"{back.path}?{back.query}").status_code == 403, "the code was used"


def test_a_new_key_of_the_provider_is_read(console: str, provider: IdentityProvider) -> None:
    come_back(Browser(console))
    provider.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"}, auto_kid=False)
    browser = Browser(console)
    assert come_back(browser).status_code == 303
    assert browser.is_signed_in


# --------------------------------------------------------------------------------------------------------- the command


def test_users_are_made_listed_changed_and_removed_by_commands(tmp_path: Path, reset_simulator: Simulator) -> None:
    onboard = Command(tmp_path, reset_simulator)
    assert onboard.json("console", "list-users")["users"] == []

    def typed(*words: str, password: str) -> subprocess.CompletedProcess[str]:
        environment = {**onboard.environment, "PYTHONPATH": str(ROOT)}
        words = (sys.executable, "-m", "worker.cli", "console", *words)
        return subprocess.run(
            words, input=f"{password}\n", env=environment, capture_output=True, text=True, timeout=120
        )

    made = typed("add-user", "hana", "--role", "approver", password=PASSWORD)
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in made.stdout + made.stderr
    kept = (onboard.home / console_users.FILE_NAME).read_text()
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in kept, "what RFC 9106 recommends where memory is short"
    assert onboard.json("console", "list-users")["users"] == [{"name": "hana", "role": "approver"}]
    assert onboard.json("console", "set-role", "hana", "viewer")["exit"] == 0
    assert onboard.json("console", "list-users")["users"] == [{"name": "hana", "role": "viewer"}]
    assert typed("passwd", "hana", password="short").returncode == 2
    assert onboard.json("console", "remove-user", "HANA")["exit"] == 0
    assert onboard.json("console", "remove-user", "hana")["exit"] == 2

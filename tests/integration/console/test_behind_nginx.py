"""The samples of docs/run/console.md as they stand there: nginx, TLS, and the console behind it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests
import urllib3.util.connection
from consoles import PASSWORD, asked, running, status_of
from factories import Command, Simulator, makes_services, wait_until
from listeners import free_port
from nginx import Nginx
from oauth2_proxy import COOKIE, SignInProxy, signs_in
from shell_blocks import blocks
from tls import certificate

from tasks.operations.console_users import add_user
from tasks.settings import Settings

NAME = "review.example.jp"
URL = f"https://{NAME}"
SAMPLES = [text for language, text in blocks("docs/run/console.md") if language == "nginx"]
GROUPS = {
    "ONBOARD_CONSOLE_VIEWERS": "support",
    "ONBOARD_CONSOLE_OPERATORS": "operations",
    "ONBOARD_CONSOLE_APPROVERS": "leads",
}
#: Whatever a browser could say to be somebody else.
FORGED = {
    "X-Forwarded-User": "boss",
    "X-Forwarded-Groups": "leads",
    "X_Forwarded_User": "boss",
    "X_Forwarded_Groups": "leads",
    "X-Forwarded-Preferred-Username": "boss",
    "X-Auth-Request-Preferred-Username": "boss",
    "X-Auth-Request-Groups": "leads",
    "X-Forwarded-Uri": "/oauth2/sign_in",
    "X-Real-IP": "127.0.0.1",
    "X-Forwarded-For": "127.0.0.1",
}


class Site:
    """nginx in front of the console, as browsers reach it: by name, at the usual ports."""

    def __init__(self, nginx: Nginx, folder: Path, sign_in: SignInProxy | None = None) -> None:
        self.nginx, self.certificate, self.sign_in = nginx, str(folder / "cert"), sign_in

    def browser(self) -> requests.Session:
        """A browser that trusts the certificate."""
        session = requests.Session()
        session.trust_env = False
        session.verify = self.certificate
        return session

    def signed_in(self, name: str, *groups: str) -> requests.Session:
        """A browser in which somebody has signed in by the proxy."""
        assert self.sign_in is not None
        self.sign_in.person = (name, list(groups))
        browser = self.browser()
        assert browser.get(f"{URL}/", timeout=60).status_code == 200
        return browser

    def raw(self, request: bytes) -> bytes:
        """Send bytes by TLS, and return what comes back until the end, or until nothing more comes."""
        context = ssl.create_default_context(cafile=self.certificate)
        with (
            socket.create_connection(("127.0.0.1", self.nginx.https), 60) as plain,
            context.wrap_socket(plain, server_hostname=NAME) as connection,
        ):
            connection.sendall(request)
            found = connection.recv(65536)
            connection.settimeout(0.5)  # nginx waits for what was announced before it ends the connection
            with suppress(TimeoutError):
                while part := connection.recv(65536):
                    found += part
            return found


def form(**more: str) -> dict[str, str]:
    """What a browser says of a form on a page of the site."""
    return {"Origin": URL, "Sec-Fetch-Site": "same-origin", **more}


@pytest.fixture(scope="module")
def patched_name() -> Iterator[dict[int, int]]:
    """The ports of this machine to which the site's ports lead, as its name in a directory would."""
    ports: dict[int, int] = {}
    connect = urllib3.util.connection.create_connection

    def connected(address: tuple[str, int], *arguments: object, **more: object) -> socket.socket:
        host, port = address
        assert host == NAME, "a browser was led elsewhere"
        return connect(("127.0.0.1", ports[port]), *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib3.util.connection, "create_connection", connected)
        yield ports


@pytest.fixture(scope="module")
def made_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory, NAME)


def tls(folder: Path) -> dict[str, str]:
    return {"/etc/nginx/review.crt": str(folder / "cert"), "/etc/nginx/review.key": str(folder / "key")}


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    module_simulator: Simulator,
    made_certificate: Path,
    patched_name: dict[int, int],
) -> Iterator[Site]:
    """The first sample, with a stand-in for oauth2-proxy, and the console on its socket file."""
    folder = tmp_path_factory.mktemp("site")
    file = folder / "console.sock"
    settings = {"ONBOARD_CONSOLE_SIGN_IN": "proxy", "ONBOARD_CONSOLE_SOCKET": file, "ONBOARD_CONSOLE_URL": URL}
    with ExitStack() as stack:
        stack.enter_context(running(Command(folder, module_simulator, **settings, **GROUPS)))
        sign_in = stack.enter_context(signs_in())
        replaced = {"127.0.0.1:4180": f"127.0.0.1:{sign_in.port}", "/run/onboard/console.sock": str(file)}
        nginx = stack.enter_context(Nginx(SAMPLES[0], {**replaced, **tls(made_certificate)}))
        patched_name.update({80: nginx.http, 443: nginx.https})
        yield Site(nginx, made_certificate, sign_in)


def test_somebody_signs_in_and_comes_to_the_page_they_wanted(site: Site) -> None:
    assert site.sign_in is not None
    site.sign_in.person = ("hana.suzuki", ["support", "leads"])
    answer = site.browser().get(f"http://{NAME}/batches?state=running", timeout=60)
    assert [(each.status_code, each.headers["location"]) for each in answer.history[:2]] == [
        (301, f"{URL}/batches?state=running"),
        (302, f"{URL}/oauth2/sign_in?rd=/batches?state=running"),
    ]
    assert (answer.status_code, answer.url) == (200, f"{URL}/batches?state=running")
    assert "hana.suzuki" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_signing_out_is_the_proxys(site: Site) -> None:
    browser = site.signed_in("hana", "leads")
    assert browser.cookies.get(COOKIE)
    browser.get(f"{URL}/oauth2/sign_out", allow_redirects=False, timeout=60)
    assert browser.get(f"{URL}/", allow_redirects=False, timeout=60).status_code == 302


def test_what_a_browser_says_of_itself_counts_for_nothing(site: Site) -> None:
    stranger = site.browser().get(f"{URL}/me", headers=FORGED, allow_redirects=False, timeout=60)
    assert (stranger.status_code, stranger.headers["location"]) == (302, f"{URL}/oauth2/sign_in?rd=/me")
    jiro = site.signed_in("jiro", "support").get(f"{URL}/me", headers=FORGED, timeout=60)
    assert "jiro" in jiro.text
    assert "boss" not in jiro.text
    nobody = site.signed_in("jiro", "support")
    assert site.sign_in is not None
    site.sign_in.sessions[nobody.cookies[COOKIE]] = (
        "",
        [],
    )  # the proxy names nobody: a forged name may not fill the gap
    assert nobody.get(f"{URL}/me", headers=FORGED, timeout=60).status_code == 401
    assert {asked["x-forwarded-uri"] for asked in site.sign_in.asked if "x-forwarded-uri" in asked} & {
        FORGED["X-Forwarded-Uri"]
    } == set()
    twice = b"X-Forwarded-User: boss\r\nX-Forwarded-User: boss\r\nX-Forwarded-Groups: leads\r\n"
    cookie = f"Cookie: {COOKIE}={next(iter(site.sign_in.sessions))}\r\n".encode()
    assert b"boss" not in site.raw(asked("/me", NAME).replace(b"Connection", twice + cookie + b"Connection", 1))


def test_who_has_no_group_with_a_role_sees_the_consoles_own_page(site: Site) -> None:
    assert site.sign_in is not None
    site.sign_in.person = ("taro", ["elsewhere"])
    answer = site.browser().get(f"{URL}/", timeout=60)
    assert answer.status_code == 401
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_somebody_in_hundreds_of_groups_gets_in(site: Site) -> None:
    groups = [f"/company/department-{number:04d}/team" for number in range(400)]
    browser = site.signed_in("鈴木花子", *groups, "leads")
    assert "鈴木花子" in browser.get(f"{URL}/me", timeout=60).text


def test_a_form_of_a_page_counts_and_one_from_elsewhere_does_not(site: Site) -> None:
    hana = site.signed_in("hana", "leads")
    path = f"{URL}/batches/77/pause"
    assert hana.post(path, headers=form(), timeout=60).status_code == 409, "there is no such batch: it was looked for"
    assert hana.post(path, headers={"Origin": "https://evil.example"}, timeout=60).status_code == 403
    late = site.browser().post(path, headers=form(), allow_redirects=False, timeout=60)
    assert (late.status_code, late.headers["location"]) == (302, f"{URL}/oauth2/sign_in?rd=/")


def test_another_name_is_not_ours(site: Site) -> None:
    hana = site.signed_in("hana", "leads")
    cookie = f"{COOKIE}={hana.cookies[COOKIE]}"
    assert status_of(site.raw(asked("/", NAME, Cookie=cookie))) == 200
    assert status_of(site.raw(asked("/", "evil.example", Cookie=cookie))) == 421


def announced(megabytes: int, **headers: str) -> bytes:
    """The beginning of an upload of so many megabytes."""
    length = str(megabytes << 20)
    kind = "multipart/form-data; boundary=b"
    head = asked("/upload", NAME, "POST", **form(), Content_Type=kind, Content_Length=length, **headers)
    return head + b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + b"a" * 100_000


def test_as_much_may_be_sent_as_the_console_takes(site: Site) -> None:
    most = Settings.model_fields["console_upload_megabytes"].default
    assert all(f"client_max_body_size {most}m;" in sample for sample in SAMPLES)
    jiro = f"{COOKIE}={site.signed_in('jiro', 'support').cookies[COOKIE]}"
    answer = site.raw(announced(most, Cookie=jiro))
    assert (status_of(answer), b"default-src 'none'" in answer) == (403, True), "the console says no, to a viewer"
    answer = site.raw(announced(most + 1, Cookie=jiro))
    assert (status_of(answer), b"default-src 'none'" in answer) == (413, False)


def test_who_is_not_signed_in_sends_no_file_anywhere(site: Site) -> None:
    assert site.sign_in is not None
    before = site.sign_in.bytes_of_bodies
    assert status_of(site.raw(announced(1000))) == 302
    assert status_of(site.raw(announced(2).replace(b"/upload", b"/oauth2/sign_in", 1))) == 413
    assert site.sign_in.bytes_of_bodies == before


@pytest.mark.parametrize("megabytes", [1, 5, 15])
def test_who_sends_a_file_in_vain_reads_why(site: Site, megabytes: int) -> None:
    jiro = site.signed_in("jiro", "support")
    file = {"file": ("customers.csv", "x" * (megabytes << 20))}
    answer = jiro.post(f"{URL}/upload", files=file, headers=form(), timeout=60)
    assert (answer.status_code, "operator" in answer.text) == (403, True)


def test_a_file_of_many_megabytes_is_uploaded_and_checked(site: Site) -> None:
    rows = "".join(f"cus_{number},creditcard,ios,{'x' * 950}\n" for number in range(10_000))
    file = "customer_id,payment_method,resource,description\n" + rows
    assert len(file) > 9 << 20
    hana = site.signed_in("hana", "operations")
    answer = hana.post(f"{URL}/upload", files={"file": ("customers.csv", file)}, headers=form(), timeout=60)
    assert answer.status_code == 200, answer.text
    page = answer.url
    assert page.startswith(f"{URL}/upload/")
    wait_until(lambda: "10,000" in hana.get(page, timeout=60).text, 60, "the check of the file")


# ------------------------------------------------------------------------------------------- for the certificate only


@pytest.fixture
def own_sign_in(
    tmp_path: Path, module_simulator: Simulator, made_certificate: Path, patched_name: dict[int, int]
) -> Iterator[Site]:
    """The second sample, and the console on a port, with passwords."""
    onboard = Command(tmp_path, module_simulator, ONBOARD_CONSOLE_URL=URL, ONBOARD_CONSOLE_PROXIES="127.0.0.1")
    with makes_services(onboard.home) as services:
        add_user(services(), "hana", "approver", PASSWORD)
    with ExitStack() as stack:
        port = free_port()
        stack.enter_context(running(onboard, "--port", str(port)))
        replaced = {"127.0.0.1:8140": f"127.0.0.1:{port}", **tls(made_certificate)}
        nginx = stack.enter_context(Nginx(SAMPLES[1], replaced))
        before = dict(patched_name)
        patched_name[443] = nginx.https
        yield Site(nginx, made_certificate)
        patched_name.update(before)


def test_with_passwords_the_cookie_is_the_sites_and_encrypted_only(own_sign_in: Site) -> None:
    browser = own_sign_in.browser()
    asked = browser.get(f"{URL}/batches", timeout=60)
    assert asked.url == f"{URL}/sign-in?next=/batches"
    typed = {"name": "hana", "password": PASSWORD, "next": "/batches"}
    assert (
        browser.post(f"{URL}/sign-in", typed, headers={"Origin": "https://evil.example"}, timeout=60).status_code == 403
    )
    answer = browser.post(f"{URL}/sign-in", typed, headers=form(), timeout=60)
    cookie = answer.history[0].headers["set-cookie"]
    assert cookie.startswith("__Host-onboard=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
    assert (answer.status_code, answer.url) == (200, f"{URL}/batches")
    browser.post(f"{URL}/sign-out", headers=form(), timeout=60)
    assert browser.get(f"{URL}/batches", timeout=60).url == f"{URL}/sign-in?next=/batches"

"""What is read from `.env` and the environment, what stops the program, and what a sentence never repeats."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from factories import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import SettingsError
from tasks.settings import Settings, load_settings, setting_names


def load(folder: Path, dotenv: bytes | str = b"", **environment: str) -> Settings:
    (folder / ".env").write_bytes(dotenv.encode() if isinstance(dotenv, str) else dotenv)
    return load_settings({"HOME": "/home/one", **environment}, folder=folder)


@pytest.mark.parametrize(
    "line",
    [
        "ELEPAY_REQUESTS_PER_SECOND: 3",
        "ELEPAY_MODE",
        "set ELEPAY_MODE=test",
        'ONBOARD_LANG="ja',
        "=x",
        "a b c",
        "<env>",
    ],
)
def test_a_line_that_cannot_be_read_stops_the_program_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match=r"\.env, line 4 cannot be read") as caught:
        load(tmp_path, f"# settings\nONBOARD_LANG=ja\n\n{line}\nELEPAY_MODE=test\n")
    assert line not in str(caught.value)


def test_lines_that_mean_nothing_and_names_of_others_are_no_fault(tmp_path: Path) -> None:
    text = "\ufeff# 鍵\n\nexport ONBOARD_LANG='ja'  # Japanese\r\n\n  OTHER=$ONBOARD_LANG\nPATH_OF=\n"
    assert load(tmp_path, text).lang == "ja"


def test_a_folder_called_dotenv_is_none(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings({"HOME": "/home/one"}, folder=tmp_path).lang == "en"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ONBOARD_LANG=ja\n".encode("utf-16"), "UTF-16"),
        ("ONBOARD_LANG=ja\n# 鍵\n".encode("cp932"), r"line 2 is not UTF-8"),
        (b"#" * 1_100_000, "larger than"),
        (b"ONBOARD_REPORTS_URL=a\0b\n", "ONBOARD_REPORTS_URL: holds a NUL"),
    ],
    ids=["utf16", "cp932", "large", "nul"],
)
def test_a_dotenv_that_is_no_utf8_is_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ELEPAY_REQUEST_PER_SECOND", "ELEPAY_REQUESTS_PER_SECOND"),
        ("ONBOARD_TIMEZONE", "ONBOARD_TIME_ZONE"),
        ("ELEPAY_SECRET_KEY_FIL", "ELEPAY_SECRET_KEY"),
        ("ONBOARD_SECRET_DIR", "ONBOARD_SECRETS_DIR"),
    ],
)
def test_an_unknown_name_stops_the_program_with_the_nearest_one(tmp_path: Path, name: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} \(is {nearest} meant\?\)"):
        load(tmp_path, **{name: "3"})


def of_service(name: str, port: str = "443") -> dict[str, str]:
    """What Kubernetes puts into each container's environment for a service."""
    address = f"tcp://10.0.0.1:{port}"
    return {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": port,
        f"{name}_SERVICE_PORT_HTTPS": port,
        f"{name}_PORT": address,
        f"{name}_PORT_{port}_TCP": address,
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": port,
        f"{name}_PORT_{port}_TCP_ADDR": "10.0.0.1",
    }


def test_what_kubernetes_puts_into_the_environment_is_not_read(tmp_path: Path) -> None:
    injected = {**of_service("ONBOARD"), **of_service("ELEPAY_SIMULATOR", "8130"), **of_service("ONBOARD_METRICS")}
    assert load(tmp_path, **injected).metrics_port == 0
    assert load(tmp_path, **{**injected, "ONBOARD_METRICS_PORT": "9100"}).metrics_port == 9100
    with pytest.raises(SettingsError, match="enableServiceLinks"):
        load(tmp_path, ONBOARD_PORT="tcp://10.0.0.1:443")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "POSTGRES", "postgresql+psycopg", "postgresql+psycopg2"])
def test_postgresql_may_be_written_as_other_programs_write_it(tmp_path: Path, scheme: str) -> None:
    settings = load(tmp_path, LEDGER_URL=f"{scheme}://me:p%40ss@db:5432/onboard?sslmode=require")
    assert settings.ledger_url == "postgresql+psycopg://me:p%40ss@db:5432/onboard?sslmode=require"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("LEDGER_URL", url) for url in ("mysql://me:hidden@db/x", "hidden", "://hidden", "oracle+hidden?x://h")),
        *(("REDIS_URL", url) for url in ("redis://:hid#den@h", "redis://:hid[den@h", "redis://:hid\uff0fden@h:1")),
        *(("REDIS_URL", url) for url in ("sentinel://:hidden@h:26379/0", "redis+sentinel://:hidden@h/0")),
        *(("ELEPAY_BASE_URL", url) for url in ("https://:hid\uff0fden@h", "https://hid[den", "https://h:hidden")),
        *(("ONBOARD_ENCODINGS", "redis://:hidden@h"), ("ONBOARD_TIME_ZONE", "redis://:hidden@h")),
        *(("ONBOARD_LEASE_SECONDS", "hidden"), ("ONBOARD_TIME_ZONE", "\udcffhidden"), ("ONBOARD_CANARY", "1\0hidden")),
    ],
)
def test_a_value_that_will_not_do_names_its_setting_and_no_part_of_a_secret(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        load(tmp_path, **{name: value})
    assert not any(part in str(caught.value) for part in ("hid", "den"))


relaxed = settings(
    max_examples=examples(600), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = [
    "=",
    ":",
    "#",
    " ",
    '"',
    "'",
    "\\",
    "${",
    "}",
    "\n",
    "\r",
    "export ",
    "\0",
    "://",
    "@",
    "[",
    "0",
    "-1",
    "1e999",
    "nan",
]
PIECES = st.one_of(st.sampled_from([*WORDS, *setting_names()]).map(str.encode), st.binary(max_size=4))
VALUES = st.text(max_size=20) | st.lists(st.sampled_from(WORDS), max_size=8).map("".join)


@relaxed
@given(
    start=st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"ONBOARD_LANG=ja\n"]),
    pieces=st.lists(PIECES, max_size=40),
)
def test_whatever_a_dotenv_holds_it_is_settings_or_a_sentence(
    tmp_path: Path, start: bytes, pieces: list[bytes]
) -> None:
    with contextlib.suppress(SettingsError):  # any other exception is a fault
        load(tmp_path, start + b"".join(pieces))


@relaxed
@given(values=st.dictionaries(st.sampled_from(sorted(setting_names())), VALUES, max_size=4))
def test_whatever_settings_are_set_to_they_are_taken_or_named(tmp_path: Path, values: dict[str, str]) -> None:
    with contextlib.suppress(SettingsError):
        load(tmp_path, **values).require_key()

"""Settings come from where they should, and a wrong one names itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.settings import Settings, load_settings, setting_names

KEY = "sk_test_0123456789"


def load(folder: Path, **environment: str) -> Settings:
    return load_settings(environment, folder=folder)


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.base_url, settings.mode) == ("https://api.elepay.io", "test")
    assert settings.ledger_url is None
    assert settings.redis_url is None


def test_the_environment_goes_before_dotenv_and_that_before_files(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "ELEPAY_SECRET_KEY").write_text("sk_test_folder\n", encoding="utf-8")
    given = {"ONBOARD_SECRETS_DIR": str(secrets)}

    def key(**more: str) -> str:
        return load(tmp_path, **given, **more).require_key().get_secret_value()

    assert key() == "sk_test_folder"
    (tmp_path / "key").write_text("sk_test_file\n", encoding="utf-8")
    assert key(ELEPAY_SECRET_KEY_FILE=str(tmp_path / "key")) == "sk_test_file"
    (tmp_path / ".env").write_text("ELEPAY_SECRET_KEY=sk_test_dotenv\n", encoding="utf-8")
    assert key() == "sk_test_dotenv"
    assert key(ELEPAY_SECRET_KEY=KEY) == KEY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONBOARD_IN_FLIGHT", "many"),
        ("ONBOARD_IN_FLIGHT", "0"),
        ("ELEPAY_MODE", "prod"),
        ("ELEPAY_BASE_URL", "http://api.elepay.io"),
        ("ELEPAY_BASE_URL", "http://simulator.elepay.io"),
        ("ELEPAY_BASE_URL", "https://user:pass@api.elepay.io"),
        ("ELEPAY_REQUESTS_PER_SECOND", "-1"),
        ("ONBOARD_ENCODINGS", "utf-9"),
        ("ONBOARD_TIME_ZONE", "Tokyo"),
        ("ONBOARD_LANG", "fr"),
        ("ONBOARD_TOTAL_TIMEOUT_SECONDS", "1"),
        ("ONBOARD_LEASE_SECONDS", "41"),
        ("ONBOARD_WORKER", "2"),
        ("ELEPAY_SECRET", "sk_test_1"),
        ("ELEPAY_SECRET_KEY_FILE", "no/such/file"),
        ("ONBOARD_SECRETS_DIR", "no/such/folder"),
    ],
)
def test_a_malformed_or_unknown_setting_names_itself(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(tmp_path, **{name: value})


def test_every_malformed_setting_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ELEPAY_MODE.*ONBOARD_IN_FLIGHT"):
        load(tmp_path, ELEPAY_MODE="x", ONBOARD_IN_FLIGHT="x")


def test_plain_http_is_for_loopback(tmp_path: Path) -> None:
    assert load(tmp_path, ELEPAY_BASE_URL="http://127.0.0.1:8130/").base_url == "http://127.0.0.1:8130"


def test_only_a_test_key_goes_to_the_container_of_the_simulator(tmp_path: Path) -> None:
    address = "http://simulator:8130"
    assert load(tmp_path, ELEPAY_BASE_URL=address).base_url == address
    with pytest.raises(SettingsError, match=r"ELEPAY_BASE_URL is the simulator's"):
        load(tmp_path, ELEPAY_BASE_URL=address, ELEPAY_MODE="live")


@pytest.mark.parametrize(
    ("mode", "key", "said"),
    [
        ("test", "sk_live_1", "sk_live_"),
        ("live", "sk_test_1", "sk_test_"),
        ("test", "pk_test_1", "publishable"),
        ("test", "nonsense", "sk_test_"),
        ("test", "sk_test_1 2", "blanks"),
        ("test", "", "not set"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_without_being_quoted(
    tmp_path: Path, mode: str, key: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load(tmp_path, ELEPAY_MODE=mode, ELEPAY_SECRET_KEY=key).require_key()
    assert not key or key not in str(caught.value)


def test_the_key_has_no_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, ELEPAY_SECRET_KEY=KEY)
    assert KEY not in repr(settings) + str(settings) + str(settings.model_dump())


def test_a_malformed_value_is_not_quoted_beside_a_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, ELEPAY_SECRET_KEY=KEY, ONBOARD_LEASE_SECONDS="1")
    assert KEY not in str(caught.value)


def test_every_setting_has_a_sentence() -> None:
    assert all(sentence.endswith(".") for sentence in setting_names().values())

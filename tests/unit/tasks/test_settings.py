"""Settings come from where they should, and a wrong one names itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import SettingsError
from tasks.settings import Settings, load_settings, setting_names

KEY = "sk_test_0123456789"


def load(folder: Path, **environment: str) -> Settings:
    return load_settings({"HOME": "/home/one", **environment}, folder=folder)


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


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({}, "/home/one/.local/state/onboard"),
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state/onboard"),
        ({"XDG_STATE_HOME": "/var/state", "HOME": ""}, "/var/state/onboard"),
        ({"XDG_STATE_HOME": "state"}, "/home/one/.local/state/onboard"),
        ({"ONBOARD_HOME": ""}, "/home/one/.local/state/onboard"),
        ({"ONBOARD_HOME": "/srv/onboard", "HOME": ""}, "/srv/onboard"),
        ({"ONBOARD_HOME": "~/onboard"}, "/home/one/onboard"),
    ],
)
def test_home_is_the_same_whatever_the_working_directory(
    tmp_path: Path, environment: dict[str, str], home: str
) -> None:
    settings = load(tmp_path, **environment)
    assert (settings.home, settings.require_drop_folder()) == (Path(home), Path(home) / "drop")


def test_no_default_depends_on_the_working_directory(tmp_path: Path) -> None:
    assert load(tmp_path / "a") == load(tmp_path / "b")


def test_a_relative_folder_is_relative_to_the_working_directory_and_its_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ONBOARD_HOME=mine\nONBOARD_DROP_FOLDER=in\n", encoding="utf-8")
    settings = load(tmp_path)
    assert (settings.home, settings.drop_folder) == (tmp_path / "mine", tmp_path / "in")


@pytest.mark.parametrize("environment", [{"HOME": ""}, {"HOME": "me"}, {"HOME": "", "ONBOARD_HOME": "~/onboard"}])
def test_without_a_home_directory_home_must_be_set(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="set ONBOARD_HOME"):
        load(tmp_path, **environment)


def former(folder: Path, *names: str) -> Path:
    """Make what the former defaults would have left in a working directory."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("inbox") else path.touch()
    return folder


def test_a_ledger_at_the_former_default_is_never_passed_over(tmp_path: Path) -> None:
    settings = load(former(tmp_path / "a b", "onboarding/ledger.db"), HOME=str(tmp_path))
    old, new = tmp_path / "a b" / "onboarding", tmp_path / ".local" / "state" / "onboard"
    with pytest.raises(SettingsError) as caught:
        settings.home  # noqa: B018 - it raises
    assert f"mkdir -p {new.parent} && mv '{old}' {new}" in str(caught.value)
    assert f"export ONBOARD_HOME='{old}'" in str(caught.value)
    new.mkdir(parents=True)
    with pytest.raises(SettingsError) as caught:
        settings.home  # noqa: B018
    assert f"export ONBOARD_HOME='{old}'" in str(caught.value)
    assert f"export ONBOARD_HOME={new}" in str(caught.value)
    assert "mv " not in str(caught.value), "it would land inside of the other"


@pytest.mark.parametrize(
    "environment",
    [{"ONBOARD_HOME": "onboarding"}, {"ONBOARD_HOME": "/srv/onboard"}, {"LEDGER_URL": "postgresql://db/onboard"}],
)
def test_who_says_where_the_ledger_is_need_not_choose(tmp_path: Path, environment: dict[str, str]) -> None:
    assert load(former(tmp_path, "onboarding/ledger.db"), **environment).home.is_absolute()


def test_a_former_home_that_was_moved_and_linked_is_no_second_one(tmp_path: Path) -> None:
    moved = former(tmp_path / ".local" / "state", "onboard/ledger.db") / "onboard"
    (tmp_path / "onboarding").symlink_to(moved)
    assert load(tmp_path, HOME=str(tmp_path)).home == moved


def test_an_inbox_at_the_former_default_is_never_passed_over(tmp_path: Path) -> None:
    folder = former(tmp_path, "drop/inbox")
    with pytest.raises(SettingsError) as caught:
        load(folder).require_drop_folder()
    assert f"export ONBOARD_DROP_FOLDER={folder / 'drop'}" in str(caught.value)
    assert "/home/one/.local/state/onboard/drop" in str(caught.value)
    assert load(folder, ONBOARD_DROP_FOLDER="drop").require_drop_folder() == folder / "drop"
    assert load(folder).home == Path("/home/one/.local/state/onboard"), "the ledger is not in question"


def test_every_setting_has_a_sentence() -> None:
    assert all(sentence.endswith(".") for sentence in setting_names().values())


def test_a_secret_in_the_place_of_a_time_is_not_repeated() -> None:
    for name in ("ONBOARD_EXPECT_FILE_BY", "ONBOARD_NOT_BEFORE"):
        with pytest.raises(SettingsError) as caught:
            load_settings({"HOME": "/home/one", name: "http://user:hunter2@host/"})
        assert "is not a time of day" in str(caught.value)
        assert "hunter2" not in str(caught.value)

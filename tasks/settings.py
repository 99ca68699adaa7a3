"""Settings of this process: read once, at a door, and checked as a whole (fields: `tasks/setting_fields.py`).

Settings come, in this order, from the environment, a `.env` file in the working directory, `NAME_FILE` (the path of a
file that holds the value), and files named like the setting in `ONBOARD_SECRETS_DIR`. Names are case-sensitive.

No default depends on the working directory: the same file from two of them must meet the same ledger.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AliasChoices, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from tasks.error_texts import Sentence, Words
from tasks.errors import BadValue, SettingsError
from tasks.ledger_url import usable_ledger_url
from tasks.redis_url import check_redis_url
from tasks.send_window import Window, time_of_day
from tasks.setting_fields import SettingFields
from tasks.setting_problems import sentence_of, which_of_two
from tasks.setting_sources import collect, without_settings

__all__ = ["Settings", "SettingsError", "given_settings", "load_settings", "setting_names", "without_settings"]

#: The one other machine to which a test key may go unencrypted: the simulator's container, by its name there.
SIMULATOR_HOST = "simulator"
#: Where home and drop folder were by default before, in the working directory, and what shows that they were used.
FORMER_HOME, FORMER_LEDGER = "onboarding", "ledger.db"
FORMER_DROP_FOLDER, FORMER_INBOX = "drop", "inbox"
#: Stands for "no limit of ours" inside the rate limiter: far above what one fleet can send.
UNLIMITED_REQUESTS_PER_SECOND = 10_000.0


class Settings(SettingFields):
    """The settings of this process; read once, at a door."""

    # no settings: what is left where home and drop folder were by default before, if nothing says where they are
    former_home: Path | None = None
    former_drop_folder: Path | None = None

    @field_validator("encodings", "extra_payment_methods", "extra_resources", "shell_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _parts(value)

    @field_validator("console_viewers", "console_operators", "console_approvers", "console_proxies", mode="before")
    @classmethod
    def _split_console(cls, value: object) -> object:
        return _parts(value)

    @field_validator("console_url", "console_oidc_issuer")
    @classmethod
    def _encrypted(cls, value: str) -> str:
        if not value:
            return value
        parts = _split_url(value)
        near = parts.hostname in ("localhost", "::1") or (parts.hostname or "").startswith("127.")
        if parts.scheme != "https" and not (parts.scheme == "http" and near):
            raise BadValue("must start with https:// (plain http only on loopback)")
        if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise BadValue("must be an address such as https://review.example.jp, without user, query or fragment")
        return value

    @field_validator("follow_up_hours", mode="before")
    @classmethod
    def _split_numbers(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("follow_up_hours")
    @classmethod
    def _gaps(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < hours < 10_000 for hours in value):
            raise BadValue("must be hours above 0, comma-separated, e.g. 1,6,24,72,168")
        return value

    @field_validator("shell_names")
    @classmethod
    def _pairs_of_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [pair.split("=", 1) for pair in value]
        if not all(len(pair) == 2 and "@" in pair[0] and all(map(str.strip, pair)) for pair in pairs):
            raise BadValue("must be pairs such as taro@pay1=taro.yamada, comma-separated")
        if len({shell.strip() for shell, _ in pairs}) < len(pairs):
            raise BadValue("names a user of a machine twice")
        return value

    @field_validator("encodings")
    @classmethod
    def _known_encodings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise BadValue("at least one encoding is needed, e.g. utf-8-sig,cp932")
        for name in value:
            try:
                b"a".decode(name)  # nothing to decode would be no test of the name
            except UnicodeDecodeError:
                continue
            except LookupError:
                raise BadValue("{value} is not an encoding that Python knows", value=_shown(name)) from None
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise BadValue("{value} is not an IANA time zone such as Asia/Tokyo", value=_shown(value)) from None
        return value

    @field_validator("not_before", "until", "expect_file_by", "digest_at")
    @classmethod
    def _time_of_day(cls, value: str) -> str:
        if value.strip():
            try:
                time_of_day(value)
            except BadValue:
                short = value.strip() if len(value) <= 8 else ""  # a longer value may be a secret in the wrong place
                raise BadValue("{text!r} is not a time of day such as 01:00", text=short or "…") from None
        return value.strip()

    @field_validator("secret_key", mode="before")
    @classmethod
    def _no_blanks(cls, value: object) -> object:
        return (value.strip() or None) if isinstance(value, str) else value

    @field_validator("notify_command")
    @classmethod
    def _words(cls, value: str) -> str:
        try:
            shlex.split(value)
        except ValueError as error:
            raise BadValue("its words cannot be told apart: {why}", why=Words(error)) from None
        return value

    @field_validator("redis_url", "ledger_url", "notify_urls", "console_oidc_client_secret", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("ledger_url")
    @classmethod
    def _usable_ledger_url(cls, value: str | None) -> str | None:
        return None if value is None else usable_ledger_url(value)

    @field_validator("redis_url")
    @classmethod
    def _usable_redis_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_redis_url(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _safe_base_url(cls, value: str) -> str:
        parts = _split_url(value)
        near = parts.hostname in ("localhost", "::1", SIMULATOR_HOST) or (parts.hostname or "").startswith("127.")
        if parts.scheme != "https" and not (parts.scheme == "http" and near):
            raise BadValue("must start with https:// (plain http only on loopback, for the simulator)")
        if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise BadValue("must be an address such as https://api.elepay.io, without user, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _live_keys_go_to_elepay(self) -> Self:
        if self.live and urlsplit(self.base_url).hostname == SIMULATOR_HOST:
            raise BadValue("ELEPAY_BASE_URL is the simulator's: it must be elepay's when ELEPAY_MODE is live")
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.connect_timeout_seconds + self.read_timeout_seconds > self.total_timeout_seconds:
            raise BadValue(
                "ONBOARD_TOTAL_TIMEOUT_SECONDS must be at least ONBOARD_CONNECT_TIMEOUT_SECONDS plus"
                " ONBOARD_READ_TIMEOUT_SECONDS"
            )
        if self.lease_seconds < self.total_timeout_seconds + 5:
            raise BadValue("ONBOARD_LEASE_SECONDS must exceed ONBOARD_TOTAL_TIMEOUT_SECONDS by at least 5")
        return self

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        try:
            Window.of(self.not_before, self.until, self.time_zone)
        except BadValue as error:
            raise BadValue("ONBOARD_NOT_BEFORE and ONBOARD_UNTIL: {why}", why=error) from None
        return self

    @property
    def window(self) -> Window:
        """When sending is allowed."""
        return Window.of(self.not_before, self.until, self.time_zone)

    @property
    def people_of_shells(self) -> dict[str, str]:
        """User of a machine (`user@host`) -> name of the person."""
        pairs = (pair.split("=", 1) for pair in self.shell_names)
        return {shell.strip(): person.strip() for shell, person in pairs}

    @property
    def address(self) -> str:
        """ELEPAY_BASE_URL as the ledger keeps it: with a host in lower case and without a default port."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        default = {"http": 80, "https": 443}[parts.scheme]
        port = "" if parts.port in (None, default) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}{parts.path}"

    @property
    def limit_requests_per_second(self) -> float:
        """The fleet's limit as the rate limiter takes it."""
        return self.requests_per_second or UNLIMITED_REQUESTS_PER_SECOND

    @property
    def live(self) -> bool:
        """True in live mode."""
        return self.mode == "live"

    @property
    def home(self) -> Path:
        """ONBOARD_HOME, absolute.

        Raises SettingsError while it is not set and a ledger lies where it was by default before.
        """
        if self.former_home is not None:
            why = Sentence("what one ledger knows would be sent again with the other")
            raise SettingsError(which_of_two("ONBOARD_HOME", self.former_home, self.home_folder, why))
        return self.home_folder

    def require_drop_folder(self) -> Path:
        """Return ONBOARD_DROP_FOLDER, absolute.

        Raises SettingsError while it is not set and an inbox lies where it was by default before.
        """
        if self.former_drop_folder is not None:
            why = Sentence("files that lie in one would not be seen in the other")
            raise SettingsError(which_of_two("ONBOARD_DROP_FOLDER", self.former_drop_folder, self.drop_folder, why))
        return self.drop_folder

    def require_key(self) -> SecretStr:
        """Return the key after checking it against the declared mode (docs/reference/elepay-api.md §1).

        Raises SettingsError without a key, with a publishable one, or one of the other mode.
        """
        if self.secret_key is None:
            raise SettingsError("ELEPAY_SECRET_KEY is not set: write it into the environment, .env or a secret file")
        key = self.secret_key.get_secret_value()
        if key.startswith("pk_"):
            raise SettingsError("ELEPAY_SECRET_KEY is a publishable key (pk_…): the secret one starts with sk_")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise SettingsError("ELEPAY_SECRET_KEY has blanks or characters that no key has: copy it again")
        expected, other = ("sk_live_", "sk_test_") if self.live else ("sk_test_", "sk_live_")
        if key.startswith(other):
            raise SettingsError(
                "ELEPAY_SECRET_KEY starts with {other} but ELEPAY_MODE is {mode}: change one of the two",
                other=other,
                mode=self.mode,
            )
        if not key.startswith(expected):
            raise SettingsError(
                "ELEPAY_SECRET_KEY must start with {expected} when ELEPAY_MODE is {mode}",
                expected=expected,
                mode=self.mode,
            )
        return self.secret_key

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what `load_settings` hands in: it has looked everywhere already."""
        return (init_settings,)


def setting_names() -> dict[str, str]:
    """Return the name of every setting -> its one sentence."""
    names = {}
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names[str(alias.choices[0])] = field.description or ""
    return names


def load_settings(environment: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """Return the settings of this process.

    Raises SettingsError that names every malformed or unknown setting. `folder` is the working directory: where `.env`
    is looked for, and what folders without a leading slash are relative to.
    """
    environment = os.environ if environment is None else environment
    folder = (folder or Path.cwd()).absolute()
    values = collect(environment, folder, setting_names(), setting_names())
    try:
        return Settings.model_validate({**values, **_folders(values, environment, folder)})
    except ValidationError as error:
        raise SettingsError(sentence_of(error)) from None


def given_settings(names: Iterable[str]) -> dict[str, str]:
    """Return those of the named settings that are given somewhere, as text; others are not read.

    Raises SettingsError for unknown settings and for files that cannot be read.
    """
    return collect(os.environ, Path.cwd(), names, setting_names())


def _folders(values: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> dict[str, Path | None]:
    """Return home and drop folder, absolute, and what is left where they were by default before."""

    def absolute(text: str) -> Path:
        return _user_home(environment) / text[2:] if text.startswith("~/") else folder / text

    home, drop = values.get("ONBOARD_HOME"), values.get("ONBOARD_DROP_FOLDER")
    home_folder = absolute(home) if home else _state_folder(environment) / "onboard"
    drop_folder = absolute(drop) if drop else home_folder / "drop"
    former_home, former_drop = folder / FORMER_HOME, folder / FORMER_DROP_FOLDER
    home_is_open = not home and not values.get("LEDGER_URL") and (former_home / FORMER_LEDGER).exists()
    drop_is_open = not drop and (former_drop / FORMER_INBOX).is_dir()
    return {
        "ONBOARD_HOME": home_folder,
        "ONBOARD_DROP_FOLDER": drop_folder,
        "former_home": former_home if home_is_open and former_home.resolve() != home_folder.resolve() else None,
        "former_drop_folder": former_drop if drop_is_open and former_drop.resolve() != drop_folder.resolve() else None,
    }


def _state_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for what programs keep, by the XDG Base Directory Specification; it ignores relative values."""
    chosen = Path(environment.get("XDG_STATE_HOME", ""))
    return chosen if chosen.is_absolute() else _user_home(environment) / ".local" / "state"


def _user_home(environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("HOME", ""))
    if not home.is_absolute():
        raise SettingsError(
            "ONBOARD_HOME has no default here, because HOME is not set to an absolute path: set ONBOARD_HOME to the"
            " folder for the ledger, accepted files and reports"
        )
    return home


def _parts(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _shown(value: str) -> str:
    """Return a value as it may be repeated: only a short word, for another may be a secret in the wrong place."""
    return (
        repr(value) if value.isascii() and value.replace("-", "").isalnum() and len(value) <= 20 else Words("the value")
    )


def _split_url(value: str) -> SplitResult:
    """Split an address; what `urlsplit` says of a malformed one would quote it."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - it raises
    except ValueError:
        raise BadValue("must be an address such as https://api.elepay.io") from None
    return parts

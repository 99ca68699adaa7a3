"""Every knob: type, default, one sentence.

Settings come, in this order, from the environment, a `.env` file in the working directory, `NAME_FILE` (the path of a
file that holds the value), and files named like the setting in `ONBOARD_SECRETS_DIR`. Names are case-sensitive.

No default depends on the working directory: the same file from two of them must meet the same ledger.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from tasks.errors import SettingsError
from tasks.redis_url import check_redis_url
from tasks.send_window import Window, time_of_day

#: A setting that starts with one of these must be one of ours; others are nobody's business.
PREFIXES = ("ELEPAY_", "ONBOARD_")
#: Names without our prefixes that we read.
PLAIN_NAMES = ("REDIS_URL", "LEDGER_URL")
#: Where `FILE` variants are looked for: every setting may be given as NAME_FILE.
FILE_SUFFIX = "_FILE"
SECRETS_DIR = "ONBOARD_SECRETS_DIR"
#: The one other machine to which a test key may go unencrypted: the simulator's container, by its name there.
SIMULATOR_HOST = "simulator"
#: Where home and drop folder were by default before, in the working directory, and what shows that they were used.
FORMER_HOME, FORMER_LEDGER = "onboarding", "ledger.db"
FORMER_DROP_FOLDER, FORMER_INBOX = "drop", "inbox"
#: Stands for "no limit of ours" inside the rate limiter: far above what one fleet can send.
UNLIMITED_REQUESTS_PER_SECOND = 10_000.0

Names = Annotated[tuple[str, ...], NoDecode]
Numbers = Annotated[tuple[float, ...], NoDecode]


def _field(name: str, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(name), description=description, **limits)


class Settings(BaseSettings):
    """What the program was told; read once, at a door."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, case_sensitive=True)

    # elepay
    secret_key: SecretStr | None = _field("ELEPAY_SECRET_KEY", None, "elepay's secret key, sk_test_… or sk_live_….")
    base_url: str = _field(
        "ELEPAY_BASE_URL",
        "https://api.elepay.io",
        "Where elepay answers; https, or for the simulator http: on loopback, or in test mode the host `simulator`.",
    )
    mode: Literal["test", "live"] = _field("ELEPAY_MODE", "test", "The mode that the key must have: test or live.")
    requests_per_second: float = _field(
        "ELEPAY_REQUESTS_PER_SECOND", 20.0, "The whole fleet's allowance; 0 sets no limit of ours.", ge=0, le=10_000
    )

    # servers and folders
    redis_url: str | None = _field(
        "REDIS_URL", None, "Redis or Valkey of the fleet; without it `onboard run` starts a private one."
    )
    ledger_url: str | None = _field(
        "LEDGER_URL", None, "The ledger in SQLAlchemy's form; by default SQLite in ONBOARD_HOME."
    )
    home_folder: Path = _field(
        "ONBOARD_HOME",
        Path("~/.local/state/onboard"),
        "Folder for the ledger, accepted files and reports; `XDG_STATE_HOME/onboard` by default if that is set.",
    )

    # sending
    workers: int = _field("ONBOARD_WORKERS", 0, "Worker processes of `onboard run`; 0: one a core.", ge=0, le=64)
    in_flight: int = _field("ONBOARD_IN_FLIGHT", 400, "Requests under way at once in one process.", ge=1, le=1000)
    slice_rows: int = _field("ONBOARD_SLICE_ROWS", 200, "Rows of one slice, the work of one message.", ge=1, le=5000)
    slice_seconds: float = _field(
        "ONBOARD_SLICE_SECONDS", 10.0, "After this time a slice gives back what it has not sent.", ge=0.5, le=600
    )
    connect_timeout_seconds: float = _field(
        "ONBOARD_CONNECT_TIMEOUT_SECONDS", 5.0, "How long a connection to elepay may take.", gt=0
    )
    read_timeout_seconds: float = _field(
        "ONBOARD_READ_TIMEOUT_SECONDS", 30.0, "How long elepay may be silent before the outcome is unclear.", gt=0
    )
    total_timeout_seconds: float = _field(
        "ONBOARD_TOTAL_TIMEOUT_SECONDS", 40.0, "How long one request may take in all.", gt=0
    )
    lease_seconds: float = _field(
        "ONBOARD_LEASE_SECONDS", 60.0, "How long a worker's rows stay its own without a sign of life.", gt=0
    )
    unreachable_seconds: float = _field(
        "ONBOARD_UNREACHABLE_SECONDS",
        300.0,
        "A row that could not be sent for this long (no connection, throttled) halts its batch.",
        gt=0,
    )
    maintenance_seconds: float = _field(
        "ONBOARD_MAINTENANCE_SECONDS",
        14_400.0,
        "How long the end of elepay's maintenance, or of an outage, is waited for before a batch is halted.",
        gt=0,
    )
    trust_env: bool = _field("ONBOARD_TRUST_ENV", False, "Let requests read proxies and .netrc from the environment.")

    # settling
    look_up_delay_seconds: float = _field(
        "ONBOARD_LOOK_UP_DELAY_SECONDS", 5.0, "How long after an unclear outcome elepay is asked what it has.", ge=0
    )
    list_lag_seconds: float = _field(
        "ONBOARD_LIST_LAG_SECONDS",
        120.0,
        "How far elepay's lists may be behind: for so long a source that they lack is not believed to be absent, unless"
        " they show one that was sent later.",
        ge=0,
        le=86_400,
    )
    look_ups: int = _field("ONBOARD_LOOK_UPS", 5, "Inconclusive look-ups of a row before a person decides.", ge=1)
    resends: int = _field(
        "ONBOARD_RESENDS", 5, "How often an unclear row that surely has no source is sent again.", ge=0, le=5
    )
    guard_answers: int = _field(
        "ONBOARD_GUARD_ANSWERS",
        20,
        'If this many first answers all say "does not exist", the batch is halted (wrong key or mode); 0: never.',
        ge=0,
    )

    breaker_answers: int = _field(
        "ONBOARD_BREAKER_ANSWERS", 100, "How many of the last answers of a batch the breaker looks at; 0: never.", ge=0
    )
    breaker_share: float = _field(
        "ONBOARD_BREAKER_SHARE", 0.5, "If more than this share of them are refusals, the batch is paused.", gt=0, le=1
    )
    canary: int = _field(
        "ONBOARD_CANARY", 0, "So many rows of a new batch run first, then a person approves the rest; 0: all run.", ge=0
    )
    watchdog_seconds: float = _field(
        "ONBOARD_WATCHDOG_SECONDS",
        300.0,
        "A worker with open rows none of which moves for so long ends, so that its supervisor starts it again.",
        gt=0,
    )

    verify_first: bool = _field(
        "ONBOARD_VERIFY_FIRST",
        False,
        "Every new batch looks each row up before it is sent, as with --verify-first: for the nights after a restore.",
    )

    # files
    encodings: Names = _field(
        "ONBOARD_ENCODINGS", ("utf-8-sig", "cp932"), "Encodings to try, strictly and in this order, comma-separated."
    )
    extra_payment_methods: Names = _field(
        "ONBOARD_EXTRA_PAYMENT_METHODS", (), "Payment methods that elepay has added since, comma-separated."
    )
    extra_resources: Names = _field(
        "ONBOARD_EXTRA_RESOURCES", (), "Resources that elepay has added since, comma-separated."
    )

    max_invalid_share: float = _field(
        "ONBOARD_MAX_INVALID_SHARE",
        1.0,
        "A file with a larger share of invalid records is not onboarded at all.",
        ge=0,
        le=1,
    )
    require_valid_row: bool = _field("ONBOARD_REQUIRE_VALID_ROW", False, "Refuse a file in which no record is valid.")
    refuse_finished_file: bool = _field(
        "ONBOARD_REFUSE_FINISHED_FILE",
        False,
        "Refuse a file that is byte for byte one that finished before (otherwise its rows are skipped one by one).",
    )

    other_spelling: Literal["invalid", "own"] = _field(
        "ONBOARD_OTHER_SPELLING",
        "invalid",
        "A row whose identity is known in another spelling: invalid (it is not sent), or own (a source of its own).",
    )

    damaged_keys: Literal["invalid", "send"] = _field(
        "ONBOARD_DAMAGED_KEYS",
        "invalid",
        "A row whose customer id or reference a spreadsheet has rewritten (1.23E+11): invalid (it is not sent), or send"
        " (as it is).",
    )

    # the night
    not_before: str = _field(
        "ONBOARD_NOT_BEFORE",
        "",
        "Nothing is sent before this time of day, e.g. 01:00, in ONBOARD_TIME_ZONE; empty: always.",
    )
    until: str = _field(
        "ONBOARD_UNTIL", "", "Nothing is sent from this time of day on, e.g. 06:00; it needs ONBOARD_NOT_BEFORE."
    )

    # afterwards
    follow_up_share: float = _field(
        "ONBOARD_FOLLOW_UP_SHARE", 0.1, "Share of the allowance with which pending sources are followed up.", gt=0, le=1
    )
    follow_up_hours: Numbers = _field(
        "ONBOARD_FOLLOW_UP_HOURS",
        (1.0, 6.0, 24.0, 72.0, 168.0),
        "Hours from a source's creation to the first question what became of it, to the next, …; the last goes on.",
    )
    follow_up_days: float = _field(
        "ONBOARD_FOLLOW_UP_DAYS", 90.0, "A source still pending so many days after its creation is left alone.", gt=0
    )
    pending_days: float = _field(
        "ONBOARD_PENDING_DAYS", 7.0, "`onboard report follow-up` lists sources that are pending for so many days.", ge=0
    )
    keep_days: int = _field(
        "ONBOARD_KEEP_DAYS",
        0,
        "Days after which a finished batch's file, reports and personal data are dropped; 0: kept for ever.",
        ge=0,
    )

    # dropped files
    drop_folder: Path = _field(
        "ONBOARD_DROP_FOLDER",
        Path("~/.local/state/onboard/drop"),
        "Folder of `onboard watch`, with inbox, archive and outbox in it; by default `drop` in ONBOARD_HOME.",
    )
    settle_seconds: float = _field(
        "ONBOARD_SETTLE_SECONDS",
        5.0,
        "A dropped file is complete when size and time have not changed for so long; a companion makes it so at once.",
        gt=0,
        le=3600,
    )
    scan_seconds: float = _field(
        "ONBOARD_SCAN_SECONDS",
        10.0,
        "How often `onboard watch` looks without being told (network shares tell nothing), and tries again.",
        gt=0,
        le=3600,
    )
    expect_file_by: str = _field(
        "ONBOARD_EXPECT_FILE_BY",
        "",
        "HH:MM; `onboard watch` warns when no file arrived in the 24 hours before; empty: never.",
    )

    # seeing inside
    metrics_port: int = _field(
        "ONBOARD_METRICS_PORT",
        0,
        "Where a worker or a watcher serves /metrics, /healthz and /readyz; 0: nowhere.",
        ge=0,
        le=65_535,
    )
    metrics_host: str = _field("ONBOARD_METRICS_HOST", "127.0.0.1", "The address of that port.")

    # telling people
    notify_urls: SecretStr | None = _field(
        "ONBOARD_NOTIFY_URLS",
        None,
        "Who is told what happened: Apprise addresses, with blanks or line ends between them.",
    )
    notify_command: str = _field(
        "ONBOARD_NOTIFY_COMMAND", "", "A program that is told, too, as JSON on its standard input; run without a shell."
    )
    notify_gap_seconds: float = _field(
        "ONBOARD_NOTIFY_GAP_SECONDS",
        60.0,
        "After so long what could not be told is tried again; the gap doubles up to four hours, for a day.",
        gt=0,
        le=14_400,
    )
    reports_url: str = _field(
        "ONBOARD_REPORTS_URL",
        "",
        "Where people find the reports of batch 12: /12 is put behind it, or the outbox's 12-customers for {folder}.",
    )

    # people
    time_zone: str = _field(
        "ONBOARD_TIME_ZONE", "Asia/Tokyo", "Time zone of the nightly window and of the times shown to people."
    )
    lang: Literal["en", "ja"] = _field("ONBOARD_LANG", "en", "Language of reasons and reports: en or ja.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _field(
        "ONBOARD_LOG_LEVEL", "INFO", "The least level that is logged."
    )

    # no settings: what is left where home and drop folder were by default before, if nothing says where they are
    former_home: Path | None = None
    former_drop_folder: Path | None = None

    @field_validator("encodings", "extra_payment_methods", "extra_resources", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("follow_up_hours", mode="before")
    @classmethod
    def _split_numbers(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("follow_up_hours")
    @classmethod
    def _gaps(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < hours < 10_000 for hours in value):
            raise ValueError("must be hours above 0, comma-separated, e.g. 1,6,24,72,168")
        return value

    @field_validator("encodings")
    @classmethod
    def _known_encodings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one encoding is needed, e.g. utf-8-sig,cp932")
        for name in value:
            try:
                b"a".decode(name)  # nothing to decode would be no test of the name
            except UnicodeDecodeError:
                continue
            except LookupError:
                raise ValueError(f"{name!r} is not an encoding that Python knows") from None
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Tokyo") from None
        return value

    @field_validator("not_before", "until", "expect_file_by")
    @classmethod
    def _time_of_day(cls, value: str) -> str:
        if value.strip():
            time_of_day(value)
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
            raise ValueError(f"its words cannot be told apart: {error}") from None
        return value

    @field_validator("redis_url", "ledger_url", "notify_urls", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("redis_url")
    @classmethod
    def _usable_redis_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_redis_url(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _safe_base_url(cls, value: str) -> str:
        parts = urlsplit(value)
        near = parts.hostname in ("localhost", "::1", SIMULATOR_HOST) or (parts.hostname or "").startswith("127.")
        if parts.scheme != "https" and not (parts.scheme == "http" and near):
            raise ValueError("must start with https:// (plain http only on loopback, for the simulator)")
        if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must be an address such as https://api.elepay.io, without user, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _live_keys_go_to_elepay(self) -> Self:
        if self.live and urlsplit(self.base_url).hostname == SIMULATOR_HOST:
            raise ValueError("ELEPAY_BASE_URL is the simulator's: it must be elepay's when ELEPAY_MODE is live")
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.connect_timeout_seconds + self.read_timeout_seconds > self.total_timeout_seconds:
            raise ValueError(
                "ONBOARD_TOTAL_TIMEOUT_SECONDS must be at least ONBOARD_CONNECT_TIMEOUT_SECONDS plus"
                " ONBOARD_READ_TIMEOUT_SECONDS"
            )
        if self.lease_seconds < self.total_timeout_seconds + 5:
            raise ValueError("ONBOARD_LEASE_SECONDS must exceed ONBOARD_TOTAL_TIMEOUT_SECONDS by at least 5")
        return self

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        try:
            Window.of(self.not_before, self.until, self.time_zone)
        except ValueError as error:
            raise ValueError(f"ONBOARD_NOT_BEFORE and ONBOARD_UNTIL: {error}") from None
        return self

    @property
    def window(self) -> Window:
        """When sending is allowed."""
        return Window.of(self.not_before, self.until, self.time_zone)

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
            why = "what one ledger knows would be sent again with the other"
            raise SettingsError(_which_of_two("ONBOARD_HOME", self.former_home, self.home_folder, why))
        return self.home_folder

    def require_drop_folder(self) -> Path:
        """Return ONBOARD_DROP_FOLDER, absolute.

        Raises SettingsError while it is not set and an inbox lies where it was by default before.
        """
        if self.former_drop_folder is not None:
            why = "files that lie in one would not be seen in the other"
            raise SettingsError(_which_of_two("ONBOARD_DROP_FOLDER", self.former_drop_folder, self.drop_folder, why))
        return self.drop_folder

    def require_key(self) -> SecretStr:
        """Return the key after checking it against the declared mode (docs/elepay-api.md §1).

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
                f"ELEPAY_SECRET_KEY starts with {other} but ELEPAY_MODE is {self.mode}: change one of the two"
            )
        if not key.startswith(expected):
            raise SettingsError(f"ELEPAY_SECRET_KEY must start with {expected} when ELEPAY_MODE is {self.mode}")
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
    values = _collect(environment, folder, setting_names())
    try:
        return Settings.model_validate({**values, **_folders(values, environment, folder)})
    except ValidationError as error:
        raise SettingsError("; ".join(_say(problem) for problem in error.errors(include_input=False))) from None


def given_settings(names: Iterable[str]) -> dict[str, str]:
    """Return those of the named settings that are given somewhere, as text; others are not read.

    Raises SettingsError for unknown settings and for files that cannot be read.
    """
    return _collect(os.environ, Path.cwd(), names)


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any setting of ours, for a program that must not see them."""
    return {name: value for name, value in environment.items() if not name.startswith((*PREFIXES, *PLAIN_NAMES))}


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


def _which_of_two(name: str, former: Path, now: Path, why: str) -> str:
    """Return the sentence, and the commands, that let a person choose between a former default and today's."""
    ways = [f"to go on with it, wherever onboard is started:  export {name}={shlex.quote(str(former))}"]
    if now.exists():
        ways.append(f"to use the other:  export {name}={shlex.quote(str(now))}")
    else:
        move = f"mkdir -p {shlex.quote(str(now.parent))} && mv {shlex.quote(str(former))} {shlex.quote(str(now))}"
        ways.insert(0, f"to move it, while nothing uses it:  {move}")
    return (
        f"{name} is not set, and {former} is in use: it was the default before, now that is {now}. Nothing was done:"
        f" {why}. Choose one:\n  " + "\n  ".join(ways)
    )


def _say(problem: Mapping[str, Any]) -> str:
    where = str(problem["loc"][0]) if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _collect(environment: Mapping[str, str], folder: Path, wanted: Iterable[str]) -> dict[str, str]:
    """Gather the wanted settings from environment, `.env`, NAME_FILE and the secrets folder, in this order."""
    names = setting_names()
    dotenv = {key: value for key, value in dotenv_values(folder / ".env").items() if value is not None}
    given = {**dotenv, **environment}
    unknown = [
        name
        for name in sorted(given)
        if name.startswith(PREFIXES)
        and name != SECRETS_DIR
        and name not in names
        and name.removesuffix(FILE_SUFFIX) not in names
    ]
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: docs/settings.md lists those that exist")
    values: dict[str, str] = {}
    secrets = Path(given[SECRETS_DIR]) if given.get(SECRETS_DIR) else None
    if secrets is not None and not secrets.is_dir():
        raise SettingsError(f"{SECRETS_DIR}: there is no folder {secrets}")
    for name in wanted:
        if name in given:
            values[name] = given[name]
        elif given.get(name + FILE_SUFFIX):
            values[name] = _read(Path(given[name + FILE_SUFFIX]), name + FILE_SUFFIX)
        elif secrets is not None and (secrets / name).is_file():
            values[name] = _read(secrets / name, name)
    return values


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: cannot read {path}: {type(error).__name__}") from None

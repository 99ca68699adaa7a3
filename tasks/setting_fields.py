"""Every setting: name, type, default, one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Names = Annotated[tuple[str, ...], NoDecode]
Numbers = Annotated[tuple[float, ...], NoDecode]


def _field(name: str, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(name), description=description, **limits)


class SettingFields(BaseSettings):
    """What can be set, unchecked where one value is not enough to know."""

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

    # people that decide
    four_eyes: bool = _field(
        "ONBOARD_FOUR_EYES",
        False,
        "Every batch waits until somebody else than who brought it has approved it, at most ONBOARD_CANARY rows"
        " excepted.",
    )
    shell_names: Names = _field(
        "ONBOARD_SHELL_NAMES",
        (),
        "Which person a user of a machine is, for ONBOARD_FOUR_EYES: taro@pay1=taro.yamada, comma-separated.",
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
        "How often `onboard watch` looks without a file event (network shares send none), and tries again.",
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

    # the review console
    console_url: str = _field(
        "ONBOARD_CONSOLE_URL",
        "",
        "Where browsers reach the console, besides loopback: https://review.example.jp; other names are refused.",
    )
    console_socket: str = _field(
        "ONBOARD_CONSOLE_SOCKET", "", "A socket file on which the console is served, instead of an address and a port."
    )
    console_upload_megabytes: int = _field(
        "ONBOARD_CONSOLE_UPLOAD_MEGABYTES", 2048, "The largest file that the console takes.", ge=1, le=10_000
    )
    console_sign_in: Literal["password", "proxy", "oidc"] = _field(
        "ONBOARD_CONSOLE_SIGN_IN",
        "password",
        "How people sign in: password (`onboard console add-user`), proxy (it names them) or oidc (OpenID Connect).",
    )
    console_viewers: Names = _field(
        "ONBOARD_CONSOLE_VIEWERS", (), "Groups whose members may look, with personal data masked, comma-separated."
    )
    console_operators: Names = _field(
        "ONBOARD_CONSOLE_OPERATORS", (), "Groups whose members may also pause, cancel, retry and upload."
    )
    console_approvers: Names = _field(
        "ONBOARD_CONSOLE_APPROVERS", (), "Groups whose members may also approve, resume and decide."
    )
    console_proxies: Names = _field(
        "ONBOARD_CONSOLE_PROXIES",
        (),
        "Addresses or networks of the proxy in front, whose word counts on who somebody is and from where.",
    )
    console_name_header: str = _field(
        "ONBOARD_CONSOLE_NAME_HEADER", "X-Forwarded-User", "The header in which that proxy names somebody."
    )
    console_groups_header: str = _field(
        "ONBOARD_CONSOLE_GROUPS_HEADER", "X-Forwarded-Groups", "The header in which it names their groups."
    )
    console_oidc_issuer: str = _field(
        "ONBOARD_CONSOLE_OIDC_ISSUER", "", "The issuer of OpenID Connect, as it writes itself."
    )
    console_oidc_client_id: str = _field("ONBOARD_CONSOLE_OIDC_CLIENT_ID", "", "Under which id it knows the console.")
    console_oidc_client_secret: SecretStr | None = _field(
        "ONBOARD_CONSOLE_OIDC_CLIENT_SECRET", None, "The console's secret there, if it has one."
    )
    console_oidc_scopes: str = _field(
        "ONBOARD_CONSOLE_OIDC_SCOPES", "profile", "Scopes besides openid that bring name and groups, with blanks."
    )
    console_oidc_name_claim: str = _field(
        "ONBOARD_CONSOLE_OIDC_NAME_CLAIM",
        "preferred_username",
        "The claim with somebody's name; it must name one person for ever.",
    )
    console_oidc_groups_claim: str = _field(
        "ONBOARD_CONSOLE_OIDC_GROUPS_CLAIM", "groups", "The claim with their groups; without it nobody gets in."
    )

    # notifications
    notify_urls: SecretStr | None = _field(
        "ONBOARD_NOTIFY_URLS",
        None,
        "Who is notified of what happened: Apprise addresses, with blanks or line ends between them.",
    )
    notify_command: str = _field(
        "ONBOARD_NOTIFY_COMMAND",
        "",
        "A program that gets each notification as JSON on its standard input; run without a shell.",
    )
    notify_gap_seconds: float = _field(
        "ONBOARD_NOTIFY_GAP_SECONDS",
        60.0,
        "After so long a notification that failed is tried again; the gap doubles up to four hours, for a day.",
        gt=0,
        le=14_400,
    )
    digest_at: str = _field(
        "ONBOARD_DIGEST_AT",
        "",
        "HH:MM in ONBOARD_TIME_ZONE; once a day from then on the channels are sent what is open; empty: never.",
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
    lang: Literal["en", "ja"] = _field(
        "ONBOARD_LANG", "en", "Language of what commands print, of reports and notifications: en or ja."
    )
    mask_customers: bool = _field(
        "ONBOARD_MASK_CUSTOMERS",
        False,
        "Show customers and references as cus_…a1b2 on the terminal, in the console, report.html and report.xlsx: for"
        " screens that are shared. CSV files and JSON have them whole.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _field(
        "ONBOARD_LOG_LEVEL", "INFO", "The least level that is logged."
    )

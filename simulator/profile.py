"""Every knob of the simulator, and the profiles that set them (TOML files in `profiles/`).

A fault is a share (`html_502 = 0.01`) or a table: `{share = 1.0, after_seconds = 2, for_seconds = 4}`.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from simulator.catalogue import SOURCE_METHODS

_PROFILES = Path(__file__).with_name("profiles")


class ProfileError(ValueError):
    """A knob that does not exist, or a value that does not fit it; the message names the knob."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How often a fault strikes, and when.

    Seconds and creates are counted from the first createSource, or from the moment at which a control call set the
    fault.
    """

    share: float = 0.0  #: of the attempts, 0 to 1
    after_creates: int = 0  #: begins once so many createSource requests have been judged
    after_seconds: float = 0.0  #: begins so many seconds later
    for_seconds: float | None = None  #: ends so many seconds after it began; None: never

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ProfileError(f"share is {self.share}, but must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the simulator does where elepay's documentation is silent, and how it fails."""

    # Keys and modes (docs/reference/elepay-api.md §1)
    live: bool = False  #: `sk_live_...` keys are right, too; their sources say `liveMode: true`.
    accepted_keys: tuple[str, ...] = ()  #: The only right keys; empty: every well-formed one.
    strict401: bool = False  #: A wrong or missing key is HTTP 401 instead of 400.

    # What answers look like (§2.3, §5.1)
    status_on_create: Literal["pending", "active", "failed", "inactive"] = "pending"  #: A new source's status.
    customer_id_in_sources: bool = True  #: Sources carry `customerId` (edition B).
    credential_on_retrieve: bool = False  #: retrieveSource shows the credential again.
    credential_in_lists: bool = False  #: listSources shows the credentials again.
    nulls_in_errors: bool = True  #: Errors show empty fields as null instead of leaving them out.
    error_fields: Literal["both", "errorCode", "legacy"] = "both"  #: Which code fields an error carries.
    not_found_as_html: bool = False  #: An unknown path is answered by an HTML page.
    reference_key: str = "onboarding_ref"  #: The key of `metadata` by which sources are judged.
    remember_bodies: bool = True  #: Keep description, extra and metadata; off for millions of sources.
    renamed_methods: Mapping[str, str] = field(default_factory=dict)  #: Method asked for -> what sources say instead.
    metadata_in_answers: bool = True  #: The answer to a createSource carries the metadata.
    request_ids: bool = True  #: Errors carry a `requestId`.

    # Customers and methods (§3.3, §9)
    missing_prefix: str = "missing_"  #: Customers whose id begins so do not exist.
    source_methods: tuple[str, ...] = SOURCE_METHODS  #: Methods that can hold a source; others: M002005.
    single_source_methods: tuple[str, ...] = ()  #: Methods with one source a customer; a second: M002010.
    disabled_methods: tuple[str, ...] = ()  #: Methods that this account may not use: M001001.
    max_value_bytes: int = 255  #: Longest value in `extra` and `metadata`, in UTF-8 bytes.

    # Pace
    latency_ms: float = 0.0  #: Every answer waits so long.
    jitter_ms: float = 0.0  #: ... and up to so much longer.
    max_requests_per_second: int = 0  #: More in any sliding second are answered M005000; 0: no ceiling.
    hard_ceiling: bool = False  #: Throttled requests count as well: who does not slow down stays out.

    # Lists (§2.5)
    visibility_lag_ms: float = 0.0  #: A new source appears in lists only after so long.
    replica_lags_ms: tuple[float, ...] = ()  #: One of so many replicas answers each list, so much longer behind.
    list_truncate_at: int | None = None  #: Lists end after so many, while `total` stays true.
    list_only_active: bool = False  #: Lists leave out whatever is not active.
    list_includes_deleted: bool = False  #: Lists show deleted sources.
    list_metadata: bool = True  #: Sources in lists carry their metadata.

    # Faults: what is common to all
    max_faults_per_key: int = 2  #: So many faults a row at most (the three windows not counted), then it goes well.
    hang_seconds: float = 30.0  #: How long a hanging request stays without answer.
    late_commit_seconds: float = 1.0  #: How late a late commit is.
    drip_seconds: float = 5.0  #: How long a dripping body takes.
    retry_after_seconds: int = 2  #: What a page 429 or 503 says in Retry-After.
    retry_after_form: Literal["seconds", "date", "fraction"] = "seconds"  #: How; a fraction is half a second more.
    bare_statuses: tuple[int, ...] = (303, 403, 404, 413, 429)  #: One of these is a bare status; any of 300 to 599.
    page_statuses: tuple[int, ...] = (503,)  #: One of these is the status of `page`; any of 200 to 599.
    page_scope: Literal["all", "creates", "lists"] = "all"  #: Which requests `page` answers.
    repeat_seconds: float = 0.0  #: How long after the answer `repeated_answer` repeats it; 0: at once.
    refuse: Mapping[str, float] = field(default_factory=dict)  #: errorCode -> share of the rows that get it, always.

    # Faults of createSource before the source exists
    throttled: Fault = Fault()  #: M005000 without reason; look-ups, too.
    http_429_with_retry_after: Fault = Fault()  #: An edge proxy's 429.
    drop_before_commit: Fault = Fault()  #: Connection closed, nothing created.
    hang_before_commit: Fault = Fault()  #: No answer for `hang_seconds`, nothing created, then closed.
    error_500_before_commit: Fault = Fault()  #: S001000 or S001001, nothing created.
    html_502: Fault = Fault()  #: A proxy's page, nothing created.
    bare_status_before_commit: Fault = Fault()  #: A page with one of `bare_statuses`, nothing created.

    # Faults of createSource after (or while) the source comes into being
    late_commit: Fault = Fault()  #: Created only after `late_commit_seconds`, whether or not the caller still waits.
    commit_then_drop_connection: Fault = Fault()  #: Created, connection closed without answer.
    commit_then_500_S001000: Fault = Fault()  # noqa: N815 - elepay writes its codes so  #: Created, answered S001000.
    commit_then_hang: Fault = Fault()  #: Created, answered only after `hang_seconds`.
    html_502_after_commit: Fault = Fault()  #: Created, answered by a proxy's page.
    bare_status_after_commit: Fault = Fault()  #: Created, answered by a page with one of `bare_statuses`.
    malformed_201: Fault = Fault()  #: Created; the body is cut, is no JSON, or ends before its length.
    empty_201: Fault = Fault()  #: Created; no body.
    wrong_live_mode: Fault = Fault()  #: Created; `liveMode` is the other one.
    slow_drip: Fault = Fault()  #: Created; the body takes `drip_seconds`.

    # Answers of createSource that mislead; the source exists
    repeated_answer: Fault = Fault()  #: Answered; `repeat_seconds` later the same bytes once more.
    surplus_bytes: Fault = Fault()  #: Answered, followed by a few bytes that belong to nothing.
    http_1_0: Fault = Fault()  #: Answered as HTTP/1.0 without keep-alive; the connection stays open.
    earlier_source: Fault = Fault()  #: The body is that of another customer's earlier source.
    earlier_id: Fault = Fault()  #: The `id` alone is that of another customer's earlier source.
    repeated_error: Fault = Fault()  #: Answered by an error that another customer's createSource got, byte for byte.
    bad_id: Fault = Fault()  #: The `id` holds a NUL, is not ASCII, or is 300 characters long.
    bad_status: Fault = Fault()  #: The `status` is a long text with a NUL.
    odd_json: Fault = Fault()  #: A BOM in front, a lone surrogate or NaN in `info`; all else is right.

    # Faults of everything, of one method, of lists
    page: Fault = Fault()  #: Requests of `page_scope` reach nobody; a page with one of `page_statuses` answers.
    S002000_window: Fault = Fault()  #: Maintenance: every request.
    S002001_window: Fault = Fault()  #: Maintenance of a provider: createSource of `S002001_methods`.
    S002001_methods: tuple[str, ...] = ()  #: The methods in that maintenance.
    list_500: Fault = Fault()  #: listSources answers S001000.

    def __post_init__(self) -> None:
        _check_statuses("bare_statuses", self.bare_statuses, 300)
        _check_statuses("page_statuses", self.page_statuses, 200)


@cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(Profile)


@cache
def knobs() -> tuple[str, ...]:
    """Return the names of all knobs, in order."""
    return tuple(each.name for each in dataclasses.fields(Profile))


def fault_names() -> tuple[str, ...]:
    """Return the names of the knobs that are faults, in order."""
    return tuple(name for name, kind in _types().items() if kind is Fault)


def changed(profile: Profile, changes: Mapping[str, Any]) -> Profile:
    """Return the profile with some knobs set to plain values, as they come from TOML or JSON.

    Raises `ProfileError` naming the knob if it is unknown or the value does not fit.
    """
    for name in changes:
        if name not in _types():
            raise ProfileError(f"unknown knob {name!r}")
    return dataclasses.replace(profile, **{name: _fit(name, _types()[name], value) for name, value in changes.items()})


def load_profile(name_or_path: str | Path) -> Profile:
    """Return a bundled profile by its name, or one from a TOML file.

    Raises `ProfileError` if there is no such profile or if a key in it is unknown or malformed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _PROFILES / f"{name_or_path}.toml"
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"no profile {str(name_or_path)!r}; there are: {', '.join(profile_names())}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"profile {path.name} cannot be read: {error}") from error
    try:
        return changed(Profile(), values)
    except ProfileError as error:
        raise ProfileError(f"profile {path.name}: {error}") from error


def profile_names() -> list[str]:
    """Return the names of the bundled profiles."""
    return sorted(path.stem for path in _PROFILES.glob("*.toml"))


def as_plain(profile: Profile) -> dict[str, Any]:
    """Return every knob as a value that JSON can carry, except the keys, which stay secret."""
    plain = dataclasses.asdict(profile)
    plain["accepted_keys"] = len(profile.accepted_keys)
    return plain


def _fit(name: str, kind: Any, value: Any) -> Any:
    try:
        return _converted(kind, value)
    except (TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ProfileError) else f"{value!r} does not fit"
        raise ProfileError(f"knob {name!r}: {reason}") from error


def _converted(kind: Any, value: Any) -> Any:
    """Return `value` as `kind`, or raise `TypeError` or `ValueError`."""
    if kind is Fault:
        return _fault(value)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return _one_of(typing.get_args(kind), value)
    if origin is types.UnionType:
        return None if value is None else _converted(typing.get_args(kind)[0], value)
    if origin is tuple:
        return tuple(_converted(typing.get_args(kind)[0], each) for each in _checked(list, value))
    if origin is Mapping:
        convert = _share if typing.get_args(kind)[1] is float else _text
        return {_text(key): convert(each) for key, each in _checked(dict, value).items()}
    if kind is float:
        return _not_negative(float(_checked((int, float), value)))
    if kind is int:
        return _not_negative(_checked(int, value))
    return _checked(kind, value)


def _checked(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _not_negative(value: float) -> float:
    if not value >= 0:
        raise ValueError
    return value


def _check_statuses(name: str, statuses: tuple[int, ...], lowest: int) -> None:
    if not statuses or not all(lowest <= each <= 599 for each in statuses):
        raise ProfileError(f"knob {name!r}: {list(statuses)} must be one or more of {lowest} to 599")


def _text(value: Any) -> str:
    text: str = _checked(str, value)
    return text


def _share(value: Any) -> float:
    return _fault(_checked((int, float), value)).share


def _one_of(allowed: tuple[Any, ...], value: Any) -> Any:
    if value not in allowed:
        raise ProfileError(f"{value!r} is none of {', '.join(map(str, allowed))}")
    return value


def _fault(value: Any) -> Fault:
    if isinstance(value, dict):
        hints = typing.get_type_hints(Fault)
        for key in value:
            if key not in hints:
                raise ProfileError(f"a fault has no {key!r}")
        return Fault(**{key: _converted(hints[key], each) for key, each in value.items()})
    return Fault(share=float(_checked((int, float), value)))

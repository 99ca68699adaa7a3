"""Builds ledger, API client, limiter and send loop, once per process, from the settings."""

from __future__ import annotations

import errno
import os
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from tasks import process_identity
from tasks.accept import AcceptanceChecks
from tasks.elepay.catalogue import load_catalogue
from tasks.elepay.client import ElepayApi
from tasks.elepay.exchange import Deadlines
from tasks.error_texts import Sentence
from tasks.errors import SettingsError
from tasks.files.file_store import FileStore, accepted_name
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Account, Batch
from tasks.reports.i18n import Texts
from tasks.send.outcomes import SendPolicy
from tasks.send.rate_limit import RateLimit, connect
from tasks.send.retry_policy import RetryPolicy
from tasks.send.sampling import Sampler
from tasks.send.send_loop import LoopSettings, SendLoop
from tasks.settings import Settings


def register_process(ledger: Ledger, lease_seconds: float, longest_request_seconds: float = 0.0) -> int:
    """Register this process in the ledger as one that will hold rows, and perhaps send them."""
    pid = os.getpid()
    return ledger.workers.add(
        process_identity.host(), pid, process_identity.started(pid), lease_seconds, longest_request_seconds
    )


class Services:
    """What one process needs, built when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.runner: int | None = None  #: the command that this process works for (`Ledger.runner`)
        self._redis_url = settings.redis_url
        #: When elepay was last asked what this key may use, by the monotonic clock, and its answer.
        self.sendable_methods: tuple[float, frozenset[str]] | None = None

    def use_redis(self, url: str) -> None:
        """Use this Redis: the private one that a command has started."""
        self._redis_url = url

    @property
    def redis_url(self) -> str:
        """The Redis of fleet or command; raises SettingsError if there is none."""
        if self._redis_url is None:
            raise SettingsError("REDIS_URL is not set: a fleet shares its rate limit and its messages through Redis")
        return self._redis_url

    @property
    def files(self) -> FileStore:
        """The accepted files, each under its checksum."""
        return LocalFolder(self.settings.home / "files")

    def kept_file(self, batch: Batch) -> Path:
        """Where the accepted copy of a batch's file can be read; raises OSError if it is not there."""
        kept = self.files.get(accepted_name(batch.sha256))
        if kept is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), accepted_name(batch.sha256))
        return kept

    def dropped(self, batch: Batch) -> Sentence | None:
        """Return a sentence if the file and the personal data of a batch were dropped, else nothing."""
        if batch.dropped_at is None:
            return None
        day = Texts("en", self.settings.time_zone).time(batch.dropped_at, "%Y-%m-%d")
        return Sentence(
            "the file and the customers of batch {batch} were dropped on {day} (ONBOARD_KEEP_DAYS)",
            batch=batch.id,
            day=day,
        )

    @property
    def reports(self) -> FileStore:
        """The reports, one folder a batch."""
        return LocalFolder(self.settings.home / "reports")

    @property
    def lists_folder(self) -> Path:
        """Folder of this machine for lists that are no reports of one file, and for the journal of an audit."""
        return self.settings.home / "reports"

    @property
    def ledger_url(self) -> str:
        """LEDGER_URL, or SQLite in ONBOARD_HOME."""
        if self.settings.ledger_url:
            return self.settings.ledger_url
        path = quote(str(self.settings.home / "ledger.db"))  # a folder may have `?`, `#` or `%` in its name
        return f"sqlite:///{path}"

    @property
    def account(self) -> Account:
        """Where this installation's requests go."""
        return Account(self.settings.live, self.settings.address)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger."""
        ledger = Ledger.open(self.ledger_url, self.account, home=self.settings.home)
        ledger.scope.runner = self.runner
        return ledger

    def existing_ledger(self) -> Ledger | None:
        """Return the ledger to look at it, or None: there is none, and none is made. Raises LedgerError."""
        return Ledger.open_existing(self.ledger_url, self.account, home=self.settings.home)

    @cached_property
    def api(self) -> ElepayApi:
        """The client of elepay; raises SettingsError if the key does not fit the declared mode."""
        settings = self.settings
        return ElepayApi(
            settings.base_url,
            settings.require_key(),
            Deadlines(settings.connect_timeout_seconds, settings.read_timeout_seconds, settings.total_timeout_seconds),
            trust_env=settings.trust_env,
        )

    @cached_property
    def rate_limit(self) -> RateLimit:
        """The fleet's allowance."""
        return RateLimit(connect(self.redis_url), self.settings.limit_requests_per_second, self._rate_key)

    @cached_property
    def sampler(self) -> Sampler:
        """What looks some rows of a new batch up before its first is sent."""
        return Sampler(self.ledger, self.api, self.rate_limit, self._retry, stopping=lambda: self.send_loop.draining)

    @property
    def _retry(self) -> RetryPolicy:
        return RetryPolicy(self.settings.unreachable_seconds, self.settings.maintenance_seconds)

    @cached_property
    def follow_up_limits(self) -> tuple[RateLimit, RateLimit]:
        """The share of the allowance for following up, and the allowance itself: a question needs a place of both."""
        settings = self.settings
        share = settings.follow_up_share * settings.limit_requests_per_second
        return RateLimit(connect(self.redis_url), share, f"{self._rate_key}:follow-up"), self.rate_limit

    @property
    def _rate_key(self) -> str:
        return f"onboard:rate:{self.account.key}"

    @cached_property
    def send_loop(self) -> SendLoop:
        """The sending loop of this process, started."""
        settings = self.settings
        loop = SendLoop(
            self.ledger,
            self.api,
            self.rate_limit,
            policy=SendPolicy(
                live=settings.live,
                look_up_delay_seconds=settings.look_up_delay_seconds,
                look_ups=settings.look_ups,
                resends=settings.resends,
                retry=self._retry,
                list_lag_seconds=settings.list_lag_seconds,
                longest_outage_seconds=settings.maintenance_seconds,
                follow_up_seconds=settings.follow_up_hours[0] * 3600,
            ),
            register=lambda: register_process(self.ledger, settings.lease_seconds, settings.total_timeout_seconds),
            settings=LoopSettings(
                in_flight=settings.in_flight,
                slice_seconds=settings.slice_seconds,
                lease_seconds=settings.lease_seconds,
                guard_answers=settings.guard_answers,
                breaker_answers=settings.breaker_answers,
                breaker_share=settings.breaker_share,
                window=settings.window,
            ),
        )
        loop.start()
        return loop

    def intake_rules(
        self, *, mapping: dict[str, str] | None = None, sendable: frozenset[str] | None = None
    ) -> AcceptanceChecks:
        """How this installation reads files."""
        settings = self.settings
        return AcceptanceChecks(
            encodings=settings.encodings,
            catalogue=load_catalogue(settings.extra_payment_methods, settings.extra_resources),
            mapping=mapping or {},
            sendable_methods=sendable,
            live=settings.live,
            send_damaged_keys=settings.damaged_keys == "send",
        )

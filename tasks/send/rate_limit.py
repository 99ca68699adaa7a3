"""One allowance for the whole fleet: places of the rate limit, reserved in Redis by `rate_limit.lua`.

A reservation, not check-then-sleep: each caller learns when its places come and no caller asks twice, so the limit is
both kept and used under contention (docs/engineering/decisions.md). Time is Redis's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple, cast

import structlog
from redis import BlockingConnectionPool, Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - Redis's own
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from tasks.error_texts import Sentence
from tasks.errors import RateLimitUnavailable

log = structlog.get_logger("onboard")

#: The fleet's rate is halved at most so often, in seconds, by elepay's own "too many requests" ...
BETWEEN_CUTS_SECONDS = 1.0
#: ... and by a bare status from something in between: each leaves a row that must be looked up, which takes two
#: requests more, so a storm of them would cost two thirds of the pace otherwise.
BETWEEN_BARE_CUTS_SECONDS = 4.0
#: Share of the limit that comes back each second (GROWTH in `rate_limit.lua`).
GROWTH = 0.05
#: How long the fleet pauses after "too many requests" when elepay does not say (docs/reference/elepay-api.md §6).
PAUSE_AFTER_THROTTLING_SECONDS = 0.5


#: What was known about the others' places counts for so long after it was heard.
FRESH_SECONDS = 5.0
#: No place is given that is farther away (HORIZON in `rate_limit.lua`).
HORIZON_SECONDS = 1.0
_PUT_RIGHT = {
    1: "Redis's clock went back",
    2: "it held values that this program did not write",
    3: "its values were lost or changed, or Redis's clock went forward",
}


class Reservation(NamedTuple):
    """Places of the rate limit: `places` of them, the first in `wait_seconds`, the others `interval_seconds` apart.

    No places: ask again after `wait_seconds`.
    """

    places: int
    wait_seconds: float
    interval_seconds: float


class CurrentRate(NamedTuple):
    """What the fleet may do now."""

    limit: float  #: requests per second that the operator allows
    rate: float  #: requests per second right now (lower after throttling)
    paused_seconds: float  #: nothing is sent for so long


class RateLimit:
    """The fleet's allowance; safe to share between threads and processes.

    Every method raises RateLimitUnavailable when Redis does not answer. Each call takes along what this process knows
    of the allowance, so that a key that is lost (FLUSHALL, a Redis that restarts empty), a clock of Redis's that goes
    forward, or a value that somebody has written, neither makes a second over-full nor costs a pause.
    """

    def __init__(
        self, redis: Redis, limit: float, key: str = "onboard:rate", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._key, self._clock = key, clock
        self._script = redis.register_script(files("tasks.send").joinpath("rate_limit.lua").read_text(encoding="utf-8"))
        self._known = _Known(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def reserve(self, wanted: int, lead_seconds: float = 0.0) -> Reservation:
        """Take up to `wanted` places, the first not before `lead_seconds` from now.

        At most a tenth of a second's worth is given at once (but at least one place).
        """
        asked_at = self._clock()
        places, wait, interval, _, _ = self._call("reserve", wanted, lead_seconds * 1e6)
        answered_at = self._clock()  # rather too late than too early: what is known only ever delays
        taken = (wait + places * interval) / 1e6
        last = answered_at + taken if places else self._known.last
        mine = asked_at + taken if places else self._known.mine
        farthest = HORIZON_SECONDS + max(0.1, interval / 1e6)  # what is farther is a pause, which is known by itself
        ahead = min(max(0.0, wait / 1e6 - lead_seconds), farthest)
        self._known = self._known._replace(last=last, ahead=ahead, heard=answered_at, mine=mine)
        return Reservation(places, wait / 1e6, interval / 1e6)

    def take_place(self, sleep: Callable[[float], None], given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait for one place; False if the caller has given up meanwhile."""
        while not given_up():
            reserved = self.reserve(1)
            if reserved.places:
                sleep(reserved.wait_seconds)
                return True
            sleep(min(max(reserved.wait_seconds - 0.5, 0.02), 1.0))
        return False

    def cut(self, sent_seconds_ago: float, pause_seconds: float | None = None, *, bare: bool = False) -> float:
        """Halve the fleet's rate and pause it, because of "too many requests"; return when it has recovered.

        That is in how many seconds the rate has doubled again, as it was before. `bare`: it was not elepay that said
        so. Answers to requests sent before the last cut change nothing. The rate grows back by itself.
        """
        pause = PAUSE_AFTER_THROTTLING_SECONDS if pause_seconds is None else pause_seconds
        between = BETWEEN_BARE_CUTS_SECONDS if bare else BETWEEN_CUTS_SECONDS
        _, _, _, rate, paused = self._call("cut", sent_seconds_ago * 1e6, pause * 1e6, between * 1e6)
        share = rate / 1000 / self.limit
        return max(paused / 1e6, min(share, 1.0 - share) / GROWTH)

    def pause(self, seconds: float) -> None:
        """Let the whole fleet send nothing for so long."""
        self._call("pause", seconds * 1e6, 0)

    def current(self) -> CurrentRate:
        """Look at the rate without taking a place."""
        _, _, _, rate, paused = self._call("look", 0, 0)
        return CurrentRate(self.limit, rate / 1000, paused / 1e6)

    def _call(self, operation: str, first: float, second: float, third: float = 0.0) -> list[int]:
        asked_at = self._clock()
        known = [int(number) for number in self._known.now(asked_at, self.limit)]
        arguments: list[str | int | float] = [operation, self.limit, int(first), int(second), int(third), *known]
        try:
            answer = self._script(keys=[self._key], args=arguments)
        except RedisError as error:
            raise RateLimitUnavailable(why_not(error)) from error
        *numbers, put_right = (int(part) for part in cast("list[int]", answer))
        if put_right:
            log.warning("the state of the rate limit was put right", why=_PUT_RIGHT[put_right])
        self._known = self._known._replace(
            paused_until=asked_at + numbers[4] / 1e6, rate=numbers[3] / 1000, at=asked_at
        )
        return numbers


class _Known(NamedTuple):
    """What a process last heard of the allowance; times by its own clock."""

    last: float  #: when the place after its last one is
    ahead: float  #: so many seconds away the next free place was: while others reserve as before, it still is
    heard: float  #: when that was
    paused_until: float
    rate: float  #: requests per second; 0: nothing is known
    at: float  #: when the rate was known
    mine: float  #: the same as `last`, rather too early

    def now(self, at: float, limit: float) -> tuple[float, float, float, float]:
        """Return microseconds to the next free place and to the end of a pause, and the rate in a thousandth.

        And microseconds until the last place of this process has passed.
        """
        fresh = at - self.heard < FRESH_SECONDS
        free = max(self.last - at, self.ahead if fresh else 0.0, 0.0)
        grown = min(limit, self.rate + limit * GROWTH * (at - self.at)) if self.rate else 0.0
        return free * 1e6, max(0.0, self.paused_until - at) * 1e6, grown * 1000, max(0.0, self.mine - at) * 1e6


def connect(url: str, *, connections: int = 16) -> Redis:
    """Return a client with time limits on everything it does; threads take turns when all connections are in use."""
    keepalive = {} if url.startswith("unix") else {"socket_keepalive": True, "socket_connect_timeout": 3}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=3,
        socket_timeout=3,
        health_check_interval=20,
        retry=None,
        driver_info=None,  # else each connection looks up the version of redis-py on the disk, and tells it
        **keepalive,
    )
    return Redis.from_pool(pool)


def why_not(error: RedisError) -> Sentence:
    """Say why a Redis is of no use, and what to do; the same sentence for the same reason, and never an address."""
    match error:
        case ReadOnlyError():
            return Sentence("Redis cannot be written, it is a replica: REDIS_URL must name the primary")
        case OutOfMemoryError():
            return Sentence("Redis has no memory left to write: raise its maxmemory")
        case ConnectionError() if "max number of clients" in str(error):
            return Sentence("Redis takes no more clients: raise its maxclients")
        case ConnectionError() if "certificate" in str(error).lower():
            return Sentence(
                "Redis's certificate is not trusted: REDIS_URL may name its CA, rediss://…?ssl_ca_certs=/PATH/ca.pem"
            )
        case AuthenticationError() | NoPermissionError():
            return Sentence(
                "Redis does not take the user or password of REDIS_URL, or the user may not do what is needed"
            )
        case BusyLoadingError():
            return Sentence("Redis is still loading its data")
        case ResponseError() if str(error).startswith("MISCONF"):
            return Sentence("Redis cannot save to its disk, and takes nothing until it can: see its log")
    return Sentence("Redis does not answer: {kind}", kind=type(error).__name__)


def clock_ahead_seconds(url: str) -> float:
    """Return how far the server's clock is ahead of this machine's. Raises RateLimitUnavailable."""
    client = connect(url, connections=1)
    try:
        before = time.time()
        seconds, microseconds = client.time()
        return seconds + microseconds / 1e6 - (before + time.time()) / 2
    except RedisError as error:
        raise RateLimitUnavailable(why_not(error)) from error
    finally:
        client.close()


def is_up(url: str) -> bool:
    """Return whether a server answers at this address."""
    client = connect(url, connections=1)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()


def require_writable(url: str) -> None:
    """Write to the server at this address. Raises RateLimitUnavailable with what is wrong."""
    client = connect(url, connections=1)
    try:
        client.set("onboard:written", "", ex=60)
    except RedisError as error:
        raise RateLimitUnavailable(why_not(error)) from error
    finally:
        client.close()


_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder:sub(1, #ARGV[1]) ~= ARGV[1] and holder ~= ARGV[4] then return holder end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return ARGV[1] .. ARGV[2]
"""
_RELEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder:sub(1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return ''
"""


def hold_key(client: Redis, key: str, owner: str, beat: int, seconds: float, *, instead_of: str = "") -> str:
    """Hold a key for so long unless another owner does; return what stands there then: its owner and its last beat.

    `instead_of` is what stood there of an owner that is known to be gone. Raises RateLimitUnavailable.
    """
    try:
        found = client.eval(_HOLD, 1, key, owner, str(beat), str(round(seconds * 1000)), instead_of)
    except RedisError as error:
        raise RateLimitUnavailable(why_not(error)) from error
    return cast(bytes, found).decode("utf-8", "replace")


def release_key(client: Redis, key: str, owner: str) -> None:
    """Give a key up that this owner holds. Raises RateLimitUnavailable."""
    try:
        client.eval(_RELEASE, 1, key, owner)
    except RedisError as error:
        raise RateLimitUnavailable(why_not(error)) from error

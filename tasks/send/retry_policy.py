"""The tenacity policy: what is tried again, how long, how often.

Creating a source is retried by the send loop, which asks `wait_before_retry` and puts the row back in its queue,
because every attempt needs a place of the rate limit and its own mark in the ledger. Questions (GET) are safe to
repeat and are retried in place by `retrying_look_up`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep as real_sleep

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential, wait_random, wait_random_exponential

from tasks.errors import ElepayError, Maintenance, NotSent, Throttled, TryLater


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before a row is sent again, by what went wrong; waits in seconds.

    `unreachable_seconds` and `maintenance_seconds` bound the time since the row's first try; after that its batch is
    halted, because the fault is not the row's.
    """

    unreachable_seconds: float
    maintenance_seconds: float

    def wait_before_retry(self, error: ElepayError, attempt: int, seconds_since_first: float) -> float | None:
        """Return the seconds to wait before try `attempt + 1`, or None if it is not to be tried again."""
        stop, wait = self._strategy(error)
        state = RetryCallState(_NO_CALL, fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        state.start_time = 0.0
        state.outcome_timestamp = seconds_since_first
        if stop(state):
            return None
        return max(wait(state), error.retry_after_seconds or 0.0)

    def _strategy(self, error: ElepayError) -> tuple[stop_base, wait_base]:
        match error:
            case NotSent():
                return stop_after_delay(self.unreachable_seconds), wait_random_exponential(multiplier=0.5, max=15)
            case Throttled():
                # the fleet's rate limit does the waiting; this only keeps the retries from arriving in step
                return stop_after_delay(self.unreachable_seconds), wait_random(0.2, 1.5)
            case Maintenance():
                return stop_after_delay(self.maintenance_seconds), (
                    wait_exponential(multiplier=2, min=2, max=120) + wait_random(0, 2)
                )
            case TryLater():
                return stop_after_attempt(3), wait_exponential(multiplier=20, min=20, max=120)
        return stop_after_attempt(1), wait_random(0, 0)


#: Only the policies' own arithmetic is used; nothing is called through it.
_NO_CALL = Retrying(stop=stop_after_attempt(1))


def retrying_look_up(
    attempts: int = 3, sleep: Callable[[float], None] = real_sleep, also: tuple[type[ElepayError], ...] = ()
) -> Retrying:
    """Return the policy for requests that are safe to repeat (GET): a few tries, then the last error itself.

    `also` are errors after which it is tried again besides those that say that nothing was asked.
    """
    return Retrying(
        retry=retry_if_exception_type((NotSent, Throttled, *also)),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.3, max=3),
        sleep=sleep,
        reraise=True,
    )


def look_up_gap(look_ups: int, delay_seconds: float) -> float:
    """Return the seconds until the next look-up of a row after `look_ups` inconclusive ones: growing, with jitter."""
    return float(min(delay_seconds * 2.0**look_ups, 300.0)) * random.uniform(0.9, 1.1)  # noqa: S311 - jitter

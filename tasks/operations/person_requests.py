"""What elepay is asked for a person counts against the fleet's rate limit like every other request."""

from __future__ import annotations

import contextlib
import time

from tasks.errors import RateLimitUnavailable
from tasks.services import Services

#: A person waits no longer for a place; a fleet that was throttled may pause for minutes.
MOST_SECONDS = 5.0


def wait_for_place(services: Services) -> None:
    """Wait for a place of the fleet's rate limit; without a fleet's Redis there is nothing to wait for.

    When none comes in time, or Redis does not answer, the request is made all the same: it is one, and somebody waits.
    """
    if services.settings.redis_url is None:
        return
    ends_at = time.monotonic() + MOST_SECONDS
    with contextlib.suppress(RateLimitUnavailable):
        services.rate_limit.take_place(time.sleep, lambda: time.monotonic() > ends_at)

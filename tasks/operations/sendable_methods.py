"""The payment methods that this key can register a source for, as elepay lists them."""

from __future__ import annotations

import time
from typing import NamedTuple

import structlog

from tasks.elepay.client import PaymentMethod
from tasks.errors import ElepayError, Halted, SettingsError
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

log = structlog.get_logger("onboard")

#: elepay's answer is used for so long: many small files need not ask for each.
METHODS_SECONDS = 300.0


class Answer(NamedTuple):
    """What is known of the payment methods of this key."""

    methods: frozenset[str] | None  #: None: it is not known which
    why: str = ""  #: it is not known: `refused` (the key), `unreachable` or `unsaid`
    error: ElepayError | None = None


def sendable_methods(services: Services) -> frozenset[str] | None:
    """Ask elepay which payment methods can hold a source (docs/reference/elepay-api.md §3.3); None: it does not say.

    Its answer holds for METHODS_SECONDS. Raises SettingsError if elepay does not take the key: nothing could be sent
    with it.
    """
    if services.sendable_methods is not None and time.monotonic() < services.sendable_methods[0] + METHODS_SECONDS:
        return services.sendable_methods[1]
    answer = ask(services)
    if answer.why == "refused":
        raise SettingsError(
            "elepay does not take this key ({answer}): check ELEPAY_SECRET_KEY and ELEPAY_MODE", answer=answer.error
        )
    if answer.error is not None:
        log.warning("elepay does not say which payment methods this key has; going on without", code=answer.error.code)
    services.sendable_methods = None if answer.methods is None else (time.monotonic(), answer.methods)
    return answer.methods


def ask(services: Services) -> Answer:
    """Ask elepay which payment methods can hold a source, and say why it is not known if it is not."""
    try:
        methods: list[PaymentMethod] = retrying_look_up()(services.api.list_payment_methods)
    except Halted as error:
        return Answer(None, "refused", error)
    except ElepayError as error:
        return Answer(None, "unreachable", error)
    if all(method.holds_sources is None for method in methods):
        return Answer(None, "unsaid")
    return Answer(frozenset(method.name for method in methods if method.holds_sources))

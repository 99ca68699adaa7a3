"""The payment methods that this key can register a source for, as elepay lists them."""

from __future__ import annotations

import time

import structlog

from tasks.elepay.client import PaymentMethod
from tasks.errors import ElepayError, Halted, SettingsError
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

log = structlog.get_logger("onboard")

#: elepay's answer is used for so long: many small files need not ask for each.
METHODS_SECONDS = 300.0


def sendable_methods(services: Services) -> frozenset[str] | None:
    """Ask elepay which payment methods can hold a source (docs/reference/elepay-api.md §3.3); None: it does not say.

    Its answer holds for METHODS_SECONDS. Raises SettingsError if elepay does not take the key: nothing could be sent
    with it.
    """
    if services.sendable_methods is not None and time.monotonic() < services.sendable_methods[0] + METHODS_SECONDS:
        return services.sendable_methods[1]
    methods = _ask(services)
    services.sendable_methods = None if methods is None else (time.monotonic(), methods)
    return methods


def _ask(services: Services) -> frozenset[str] | None:
    try:
        methods: list[PaymentMethod] = retrying_look_up()(services.api.list_payment_methods)
    except Halted as error:
        raise SettingsError(
            "elepay does not take this key ({answer}): check ELEPAY_SECRET_KEY and ELEPAY_MODE", answer=error
        ) from None
    except ElepayError as error:
        log.warning("elepay does not say which payment methods this key has; going on without", code=error.code)
        return None
    if all(method.holds_sources is None for method in methods):
        return None
    return frozenset(method.name for method in methods if method.holds_sources)

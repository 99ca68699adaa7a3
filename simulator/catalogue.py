"""What elepay knows: payment methods, resources, statuses and error codes (docs/reference/elepay-api.md §3, §5.3)."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PAYMENT_METHODS = """
    alipay alipayhk alipayplus amazonpay applepay applepay_cn atokara atone aupay clicktopay banktransfer creditcard
    dana docomopay ezlink felica felica_id felica_quickpay felica_transport_ic gcash ginkopay googlepay jcoinpay jkopay
    kakaopay konbini linepay merpay origamipay paidy paypal paypay pxpayplus rakutenpay smartcode tng truemoney unionpay
    wechatpay aeonpay rabbitlinepay bpi boost hellomoney tosspay naverpay wellwa grabpay momopay promptpay wovenpay auto
    ezopay
"""
#: Payment methods: the 52 values of edition A, and ezopay of edition B (§3.1).
PAYMENT_METHODS: tuple[str, ...] = tuple(_PAYMENT_METHODS.split())

#: Where the end user stands (§3.2).
RESOURCES: tuple[str, ...] = ("web", "ios", "android", "liff", "mini", "cpm", "mpm", "reader", "posapp")

#: Methods that can hold a customer source (§3.3).
SOURCE_METHODS: tuple[str, ...] = (
    "creditcard", "paidy", "paypay", "merpay", "aupay", "docomopay", "alipayplus", "wechatpay",
)  # fmt: skip

#: For payments with a scanned code only; a source with it makes no sense (§3.4).
AUTO = "auto"

#: What a source can be (§2.4); the position is how `state` remembers it.
STATUSES: tuple[str, ...] = ("pending", "active", "failed", "inactive", "deleted")

#: Languages of error messages, the default first (§1).
LANGUAGES: tuple[str, ...] = ("ja", "en", "zh-CN", "zh-TW")

_CATEGORIES = {"M": "merchant", "S": "system", "U": "user"}


class ErrorCode(NamedTuple):
    """One of elepay's error codes."""

    code: str
    legacy: str  #: five digits of the deprecated `code`, or nothing (§5.4)
    en: str
    ja: str

    @property
    def http_status(self) -> int:
        """M and U codes travel as 400, S codes as 500 (§5.2)."""
        return http_status_of(self.code)

    def message(self, language: str) -> str:
        """Return the sentence in `language`; the Chinese ones are in English here."""
        return self.ja if language == "ja" else self.en


def http_status_of(code: str) -> int:
    """Return the HTTP status with which elepay sends an error code (§5.2)."""
    return 500 if code.startswith("S") else 400


@cache
def error_codes() -> dict[str, ErrorCode]:
    """Return every error code by its name."""
    with Path(__file__).with_name("error_codes.csv").open(encoding="utf-8", newline="") as lines:
        return {line["code"]: ErrorCode(**line) for line in csv.DictReader(lines)}


def error_code(code: str) -> ErrorCode:
    """Return an error code, also one that elepay has not invented yet."""
    return error_codes().get(code) or ErrorCode(code, "", "Something went wrong.", "エラーが発生しました。")


def error_code_items() -> list[dict[str, Any]]:
    """Return the items of `GET /error-codes` (§2.1)."""
    return [
        {
            "code": each.code,
            "httpStatus": each.http_status,
            "category": _CATEGORIES[each.code[0]],
            "message": {language: each.message(language) for language in LANGUAGES},
        }
        for each in error_codes().values()
    ]

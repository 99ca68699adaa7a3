"""What the tests of hints walk: codes by where they stand, and files that show them."""

from __future__ import annotations

from typing import Any

from hinted import HEADER, lines_of

from tasks.elepay.codes import ACTIONS
from tasks.errors import Halted
from tasks.reason_texts import CODES

#: Codes by kind.
_of = {
    kind: {code for code, told in CODES.items() if told.kind == kind} for kind in ("row", "warning", "file", "elepay")
}

#: Rows that wait in a batch that stands still: not executed, whatever the reason.
OPEN = (
    "not_attempted", "to_be_sent_again", "refusal_taken_back", "not_sent", "name_not_resolved", "connection_refused",
    "connect_timeout", "certificate_not_trusted", "tls_failed", "connection_failed",
    "proxy_wants_password", "proxy_not_supported", "ca_file_missing", "S002000", "S002001", "M005000",
    *(code for code, action in ACTIONS.items() if action is Halted),
)  # fmt: skip
#: Rows that may have a source.
UNCLEAR = (
    "lost_answer", "lookup_inconclusive", "no_source_found", "internal_error", "unreadable_answer", "answer_mismatch",
    "answer_repeated", "read_timeout", "connection_reset", "server_error", "http_status", "request_too_long",
    "source_taken", "worker_died", "S001000", "S001001", "M006001", "U009000",
)  # fmt: skip
#: Rows that elepay, or we in its place, said no to.
REFUSED_BY_US = ("unknown_code", "not_sendable", "method_closed")
SKIPPED = ("duplicate_in_file", "onboarded_before", "in_another_batch", "changed", "other_spelling")
ALONE = ("given_up", "wrong_live_mode")
#: Codes of the API that elepay does not document for createSource are refused like any other.
REFUSED = sorted(_of["elepay"] - set(OPEN) - set(UNCLEAR))


TITLES = ("customer_id", "payment_method", "resource", "description", "reference", "extra.openid")
#: Code -> what makes a record so, and what its hint asks for; None: the line is deleted.
RECORDS: dict[str, tuple[dict[str, str] | str, dict[str, str] | None]] = {
    "empty_record": (",,,,,", None),
    "too_few_fields": ("cus_few,creditcard,ios", {"description": "a"}),
    "too_many_fields": ("cus_many,creditcard,ios,a,b,,c", {"description": "a,b", "reference": "", "extra.openid": ""}),
    "malformed_quotes": ('cus_quotes,creditcard,ios,"a"b,,', {"description": 'a"b'}),
    "missing_value": ({"resource": ""}, {"resource": "ios"}),
    "value_too_long": ({"description": "x" * 256}, {"description": "x"}),
    "value_too_many_bytes": ({"extra.openid": "あ" * 90}, {"extra.openid": "あ"}),
    "control_character": ({"description": "a\x07"}, {"description": "a"}),
    "invisible_character": ({"reference": "a\u200bb"}, {"reference": "ab"}),
    "blank_inside": ({"customer_id": "cus_blank inside"}, {"customer_id": "cus_blank_inside"}),
    "damaged_key": ({"customer_id": "1.23457E+11"}, {"customer_id": "cus_damaged_key"}),
    "footer": ({"customer_id": "Total", "payment_method": "", "resource": "", "description": "9"}, None),
    "cut_off": ("\0" * 40, None),
    "bad_customer_id": ({"customer_id": ".."}, {"customer_id": "cus_bad_customer_id"}),
    "unknown_payment_method": ({"payment_method": "creditcart"}, {"payment_method": "creditcard"}),
    "unknown_resource": ({"resource": "adroid"}, {"resource": "android"}),
    "auto_needs_cpm": ({"payment_method": "auto"}, {"payment_method": "creditcard"}),
    "method_holds_no_source": ({"payment_method": "linepay"}, {"payment_method": "paidy"}),
    "method_not_enabled": ({"payment_method": "merpay"}, {}),
    "extra_required": ({"payment_method": "wechatpay", "resource": "mini"}, {"extra.openid": "o"}),
}
OTHER_RECORDS = ("too_many_entries", "more_reasons")


#: Oddities of a file, each in a file that shows it.
WARNED = {
    "trimmed": "customer_id,payment_method,resource\n cus_1,creditcard,ios\n",
    "normalised": "customer_id,payment_method,resource\ncus_1,ｃｒｅｄｉｔｃａｒｄ,ios\n",
    "unknown_column": "customer_id,payment_method,resource,colour\ncus_1,creditcard,ios,red\n",
    "unnamed_column": "customer_id,payment_method,resource,\ncus_1,creditcard,ios,red\n",
    "empty_rows_at_end": "customer_id,payment_method,resource\ncus_1,creditcard,ios\n,,\n,,\n",
    "trailing_delimiter": "customer_id,payment_method,resource\ncus_1,creditcard,ios,\n",
    "replacement_character": "customer_id,payment_method,resource,description\ncus_1,creditcard,ios,\ufffd\n",
    "unusual_customer_id": "customer_id,payment_method,resource\n顧客,creditcard,ios\n",
    "scientific_notation": "customer_id,payment_method,resource\n1.23457E+11,creditcard,ios\n",
    "needs_application": "customer_id,payment_method,resource\ncus_1,paypay,ios\n",
    "point_of_sale_resource": "customer_id,payment_method,resource\ncus_1,creditcard,mpm\n",
    "extra_wanted": "customer_id,payment_method,resource\ncus_1,paypay,web\n",
}


GOOD = lines_of(["cus_1"])
#: Code -> a file that cannot be used, the same once it was put right, and the settings that it takes.
FILES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "unreadable_file": (b"", {}),
    "empty_file": (b"", {}),
    "binary_file": (b"PK\x03\x04" + bytes(200), {}),
    "wrong_encoding": (GOOD.encode() + "cus_2,creditcard,ios,月額会員,\n".encode("euc_jp"), {}),
    "unknown_delimiter": (b"sep=#\n" + GOOD.replace(",", "#").encode(), {}),
    "no_records": (HEADER.encode(), {}),
    "line_too_long": (GOOD.encode() + b"x" * 1_048_600, {}),
    "too_many_columns": (b"customer_id,payment_method,resource" + b",m" * 1_000 + b"\n", {}),
    "unclosed_quote": (GOOD.encode() + b'cus_2,creditcard,ios,"a,\n', {}),
    "duplicate_column": (GOOD.replace("reference", "resource", 1).encode(), {}),
    "bad_column": (GOOD.replace("description", "metadata.onboarding_ref").encode(), {}),
    "titles_below": (b"Customers of May\n" + GOOD.encode(), {}),
    "missing_column": (GOOD.replace("resource", "colour").encode(), {}),
    "changed_while_reading": (GOOD.encode(), {}),
    "too_many_invalid": ((GOOD + "cus_2,nonsense,ios,,\n").encode(), {"max_invalid_share": 0.1}),
    "no_valid_record": ((HEADER + "cus_2,nonsense,ios,,\n").encode(), {"require_valid_row": True}),
    "finished_before": (GOOD.encode(), {"refuse_finished_file": True}),
}

"""elepay's error codes and what is done about each, as data (docs/reference/elepay-api.md §5.3).

The error class *is* the action: `ACTIONS["M005000"]` is `Throttled`. `tasks/reason_texts.py` has the sentences.
"""

from __future__ import annotations

from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    Maintenance,
    MethodClosed,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)

#: errorCode -> what we do about it when createSource answers it.
ACTIONS: dict[str, type[ElepayError]] = {
    "M001000": Halted,  # account setup problem
    "M001001": MethodClosed,  # payment method not enabled
    "M001002": MethodClosed,  # wrong payment method
    "M001003": MethodClosed,  # terminal payment not enabled
    "M001004": MethodClosed,  # method does not support authorisation
    "M002001": Refused,  # required parameter missing
    "M002002": Refused,  # bad parameter value
    "M002003": Refused,  # does not exist; the first answers all so: halted (`tasks/send/batch_guards.py`)
    "M002004": AlreadyThere,  # already exists
    "M002005": MethodClosed,  # unsupported operation
    "M002006": Refused,  # a limit of created resources
    "M002007": Refused,
    "M002008": Refused,
    "M002009": Refused,
    "M002010": AlreadyThere,  # method does not allow several authorisations
    "M002012": Refused,
    "M003000": Halted,  # wrong call method: a bug of this program
    "M004001": Halted,  # key invalid
    "M004002": Halted,  # authentication missing
    "M004003": Halted,  # operation not allowed
    "M005000": Throttled,  # too many requests, HTTP 400
    "M006000": Refused,
    "M006001": Unclear,  # another operation in progress
    "M006002": AlreadyThere,  # already completed
    "M006003": Refused,
    "M006004": Refused,
    "M006005": Refused,
    "M006006": Refused,
    "M006007": Refused,
    "M007001": Refused,
    "M007002": Refused,
    "M008000": MethodClosed,  # web environment unsupported
    "S001000": Unclear,  # internal error
    "S001001": Unclear,  # trouble reaching the payment service
    "S002000": Maintenance,  # the whole system
    "S002001": Maintenance,  # one provider: that payment method only
    "U001000": Refused,
    "U001001": Refused,
    "U001002": Refused,
    "U002000": Refused,
    "U002001": Refused,
    "U002002": Refused,
    "U002003": Refused,
    "U003000": Refused,
    "U003001": Refused,
    "U003002": Refused,
    "U003003": Refused,
    "U003004": Refused,
    "U003005": Refused,
    "U003006": Refused,
    "U003007": Refused,
    "U003008": Refused,
    "U003009": Refused,
    "U003010": Refused,
    "U003011": Refused,
    "U004000": Refused,
    "U004001": Refused,
    "U004002": Refused,
    "U004003": Refused,
    "U004004": Refused,
    "U004005": Refused,
    "U004006": Refused,
    "U005000": TryLater,  # too many attempts of this user
    "U006000": Refused,
    "U006001": Refused,
    "U007000": Refused,
    "U007001": Refused,
    "U007002": Refused,
    "U008000": Refused,
    "U008001": Refused,
    "U008002": Refused,
    "U009000": Unclear,  # the user must act: a source may exist
}

#: Codes that close the payment method together with the resource, not the method alone.
CLOSES_RESOURCE_ONLY = frozenset({"M008000"})
#: Maintenance of one provider; the others go on.
ONE_METHOD_ONLY = frozenset({"S002001"})
#: A look-up that finds no source of the row ends the row as refused; sending again would get the same answer.
#: Of these, `http_413`, `http_414` and `http_431` come from something in between: the same request is too long again.
REFUSED_IF_ABSENT = frozenset({"M002004", "M002010", "M006002", "U009000", "http_413", "http_414", "http_431"})
#: The first answers of a batch all say this: wrong key or mode (docs/reference/elepay-api.md §8.8).
DOES_NOT_EXIST = "M002003"

#: Last digits of the deprecated `code` -> errorCode (docs/reference/elepay-api.md §5.4), for want of an errorCode.
LEGACY: dict[str, str] = {
    "10001": "M001000",
    "10002": "M001001",
    "10003": "M001002",
    "10101": "U004000",
    "10111": "M002003",
    "40013": "M002001",
    "40022": "M002007",
    "40027": "M002002",
    "40028": "M001004",
    "40029": "M002010",
    "40030": "M002003",
    "40031": "M002005",
    "40035": "M002002",
    "50000": "S001000",
    "50001": "S001001",
    "50003": "S001001",
}


def action_for(error_code: str | None, http_status: int) -> type[ElepayError]:
    """Return what to do about an answer: by `errorCode` if there is one, else by the HTTP status (§5.2).

    Unknown M and U codes refuse the row, unknown S codes are unclear. A status without a code says what to do about
    the batch or the fleet; whether the request was executed, it does not say (`ElepayError.bare`).
    """
    if error_code:
        known = ACTIONS.get(error_code)
        if known is not None:
            return known
        return Refused if error_code[:1] in "MU" else Unclear
    if http_status in (401, 403, 404, 405, 407) or 300 <= http_status < 400:
        return Halted  # the key, or an address that is not elepay's: unknown ids are answered 400/M002003
    if http_status in (413, 414, 431):
        return Refused
    if http_status in (429, 503):
        return Throttled
    return Unclear

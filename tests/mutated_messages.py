"""Messages of Celery as nobody sends them, and where they are put."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from hypothesis import strategies as st

GONE = "gone"
NUMBERS = [0, -1, 1, 2, 999, 2**31, 2**63, 10**30, 1.0, 1.5, float("nan"), float("inf"), True, None, "1", "x", [], {}]


def message(task: Any = "onboard.slice", content: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a message as Celery writes it; `content` is [args, kwargs, embed], or the body itself if it is text.

    `changes` are of its head, or of its properties if they are named like one; GONE leaves one out.
    """
    number = str(uuid.uuid4())
    head = {"lang": "py", "task": task, "id": number, "eta": None, "expires": None, "retries": 0, "root_id": number}
    head |= {"timelimit": [None, None], "parent_id": None, "ignore_result": True, "argsrepr": "TARO YAMADA"}
    properties: dict[str, Any] = {"correlation_id": number, "reply_to": "", "delivery_mode": 2, "priority": 0}
    properties |= {"body_encoding": "base64", "delivery_tag": number}
    properties["delivery_info"] = {"exchange": "", "routing_key": "onboard"}
    whole: dict[str, Any] = {"content-encoding": "utf-8", "content-type": "application/json"}
    for name, value in changes.items():
        part = properties if name in properties else whole if name.replace("_", "-") in whole else head
        part[name.replace("_", "-") if part is whole else name] = value
    if not isinstance(content, str):
        content = base64.b64encode(json.dumps(content).encode()).decode()
    whole |= {"body": content, "headers": head, "properties": properties}
    for part in (whole, head, properties):
        for name in [name for name, value in part.items() if value == GONE]:
            del part[name]
    return whole


def slice_message(*numbers: Any, **changes: Any) -> dict[str, Any]:
    """Return the message of a slice."""
    return message(content=[list(numbers), {}, {"callbacks": None, "chain": None}], **changes)


#: What has made Celery end, hold a thread for ever, work on something else, or write the message to the log.
ODD = [
    *(slice_message(*numbers) for numbers in [(), (1,), (1, 2, 3, 4), ("x", "TARO YAMADA", "z"), (None, None, None)]),
    *(slice_message(*numbers) for numbers in [(True, True, True), (1.0, 1.0, 9.0), ([1], {"a": 1}, []), (-1, -5, -2)]),
    *(slice_message(1, 1, last) for last in (10**30, 2**63, float("inf"), float("nan"), "1 or 1=1")),
    *(slice_message(batch, 1, 100) for batch in (0, 999, 2**63 - 1)),
    *(message(task, [[], {}, {}]) for task in ("os.system", "celery.chord_unlock", "celery.map", "", 7, None, [], {})),
    *(message("onboard.tidy", [[1], {}, {}]), message("onboard.follow_up", [[], {"ends": 1}, {}])),
    *(message(content=content) for content in [[[1, 1, 6]], [[1, 1, 6], {}], [[1, 1, 6], {}, {}, 4], 7, None, "%%"]),
    *(
        message(content=content)
        for content in [{"args": [1, 1, 6]}, [{"a": 1}, {}, {}], ["abc", {}, {}], [[1], [1], {}]]
    ),
    message(content=[[], {"batch_id": 1, "first_record": 1, "last_record": 6}, {}]),
    message(content=[[1, 1, 6], {}, {"chain": [{"task": "os.system"}], "callbacks": [7]}]),
    message(content=base64.b64encode(b"\xff\xfe TARO YAMADA").decode()),
    message(content=base64.b64encode(b"[" * 100_000).decode()),
    message(content=[["TARO YAMADA" * 100_000], {}, {}]),
    *(slice_message(1, 1, 6, eta=eta) for eta in ("garbage", "9999-12-31T23:59:59+00:00", 7)),
    *(slice_message(1, 1, 6, expires=when) for when in ("garbage", -5, "2001-01-01T00:00:00+00:00")),
    *(slice_message(1, 1, 6, timelimit=limit) for limit in ("x", [0.0001, -1], 7)),
    *(slice_message(1, 1, 6, id=number) for number in (GONE, 7, None, [])),
    *(slice_message(1, 1, 6, retries=retries) for retries in ("x", [], None)),
    *(slice_message(1, 1, 6, content_type=kind) for kind in ("application/x-python-serialize", "x", 7, GONE)),
    *(slice_message(1, 1, 6, content_encoding=kind) for kind in ("utf-99", 9, GONE)),
    *(slice_message(1, 1, 6, compression=kind) for kind in ("application/x-gzip", "x")),
]
#: Nothing that Celery can read at all: its consumer ends, and the worker starts anew.
NO_MESSAGES: list[Any] = [b"\xff\xfe\0", b"[]", b"{}", b"garbage", slice_message(1, 1, 6, delivery_tag=GONE)]


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """A message with up to three faults; one in twelve is none at all."""
    numbers = draw(st.lists(st.sampled_from(NUMBERS), min_size=2, max_size=4))
    content: Any = [numbers, {}, {}]
    if draw(st.booleans()):
        content = draw(st.recursive(st.sampled_from([*NUMBERS, content]), lambda inner: st.lists(inner, max_size=4)))
    task = draw(st.sampled_from(["onboard.slice"] * 4 + ["onboard.tidy", "onboard.follow_up", "celery.group", 7]))
    names = [
        "id",
        "eta",
        "expires",
        "retries",
        "timelimit",
        "lang",
        "root_id",
        "shadow",
        "priority",
        "reply_to",
        "body_encoding",
    ]
    changes = draw(st.dictionaries(st.sampled_from(names), st.sampled_from([*NUMBERS, GONE]), max_size=3))
    if not draw(st.integers(0, 11)):
        return draw(st.sampled_from(NO_MESSAGES) | st.binary(max_size=20))
    return message(task, content, **changes)

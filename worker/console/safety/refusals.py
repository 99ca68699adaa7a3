"""What is answered instead of a page: a sentence, and nothing of the request."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from worker.console.page_texts import page, texts_of
from worker.console.people import Person, Role


class RequestRefused(HTTPException):
    """A request that reaches no page; `key` is a text of the pages."""

    def __init__(self, status: int, key: str) -> None:
        super().__init__(status)
        self.key = key


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, key: str) -> None:
    """Answer a request before it reaches a page."""
    await refusal(Request(scope), status, key)(scope, receive, send)


def refusal(request: Request, status: int, key: str) -> Response:
    """Return the page that says it."""
    if status == HTTPStatus.MISDIRECTED_REQUEST:  # a name that is not ours: no page, not even of ours
        return PlainTextResponse(texts_of(request)(key), status)
    answer = sorry(request, status, texts_of(request)(key))
    answer.headers["Connection"] = "close"  # or the rest of a body that is refused would go on arriving
    return answer


def sorry(request: Request, status: int, sentence: str) -> Response:
    """Return the page that says why there is no other, also where nobody knows yet who asks."""
    if not hasattr(request.state, "person"):
        request.state.person = Person("", Role.VIEWER)
    return page(request, "sorry.html.j2", status=status, sentence=sentence)

"""A caller of the simulator over real connections: one attempt a call, nothing repeated."""

from __future__ import annotations

from typing import Any

import requests
from factories import KEY, Simulator

AUTHORIZATION = {"Authorization": f"Bearer {KEY}", "Accept-Language": "en"}
NO_ANSWER = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


class Client:
    """elepay's caller: one attempt a call, nothing repeated."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(AUTHORIZATION)

    def create(self, customer: str = "cus_1", reference: str | None = "r1", **fields: Any) -> requests.Response:
        body: dict[str, Any] = {"paymentMethod": "creditcard", "resource": "web", **fields}
        if reference is not None:
            body.setdefault("metadata", {"onboarding_ref": reference})
        body = {name: value for name, value in body.items() if value is not None}
        return self.call("POST", f"/customers/{customer}/sources", json=body)

    def sources(self, customer: str = "cus_1", **query: str) -> dict[str, Any]:
        answer = self.call("GET", f"/customers/{customer}/sources", params=query)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def heard(self, customer: str, reference: str) -> str:
        """Create, and say in a few words what came of it."""
        try:
            answer = self.create(customer, reference)
        except NO_ANSWER:
            return "no answer"
        is_json = answer.headers["content-type"].startswith("application/json")
        return f"{answer.status_code} {answer.json().get('errorCode') if is_json else 'page'}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        more.setdefault("timeout", 60)
        return self.session.request(method, self.simulator.url + path, **more)


def told(answer: requests.Response) -> tuple[int, str, str | None]:
    content = answer.json()
    return answer.status_code, content["errorCode"], content["parameterName"]

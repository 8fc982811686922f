"""POST /ws-ticket, and the WebSocket that is opened with its answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from chalicelib.core.backend import Backend
from tests.handlers.conftest import Http


def connect(ticket: str | None, name: str = "c") -> dict[str, Any]:
    """What API Gateway is answered when a client connects."""
    import app

    event = {
        "requestContext": {
            "domainName": "sockets.test",
            "stage": "api",
            "connectionId": name,
            "apiId": "abc",
            "routeKey": "$connect",
        },
        "queryStringParameters": None if ticket is None else {"ticket": ticket},
    }
    answer: dict[str, Any] = app.ws_connect(event, SimpleNamespace(aws_request_id="r"))
    return answer


def test_a_ticket_is_answered_with_its_end_and_where_to_go(http: Http) -> None:
    answer = http("POST", "/ws-ticket")
    assert answer.status_code == 201
    assert set(answer.json_body) == {"ticket", "expires_at", "url"}
    assert len(answer.json_body["ticket"]) == 43
    assert answer.json_body["expires_at"] == "2026-03-04T05:07:07.000Z"
    assert answer.json_body["url"] == "wss://sockets.test"


def test_every_ticket_is_another_one_even_under_one_idempotency_key(http: Http) -> None:
    tickets = {
        http("POST", "/ws-ticket", headers={"Idempotency-Key": "k"}).json_body["ticket"]
        for _ in range(5)
    }
    assert len(tickets) == 5


def test_a_body_is_refused(http: Http) -> None:
    assert http("POST", "/ws-ticket", {"for": "me"}).status_code == 400


def test_a_ticket_opens_one_connection(http: Http, new_key: Callable[..., str]) -> None:
    http.key = new_key("me", "read")
    ticket = http("POST", "/ws-ticket").json_body["ticket"]
    assert connect(ticket) == {"statusCode": 200}
    assert connect(ticket, "another") == {"statusCode": 401}


def test_where_keys_are_asked_for_nobody_connects_without_a_ticket(keyed: Backend) -> None:
    assert connect(None) == {"statusCode": 401}


def test_where_nobody_is_asked_a_ticket_may_be_left_out_but_not_be_wrong(http: Http) -> None:
    assert connect(None) == {"statusCode": 200}
    assert connect("wrong") == {"statusCode": 401}

"""GET /history over HTTP: who sees which ends, and which questions are refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from chalicelib.api import web
from chalicelib.audit.query import token_of
from infra.package import ROOT
from tests.handlers.conftest import Http, reader
from tests.handlers.test_http import problem

START = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


def test_an_ended_task_is_found_page_by_page_as_the_contract_says(http: Http, stream: Any) -> None:
    ids = []
    for _ in range(3):
        ids.append(http("POST", "/start", START).json_body["task_id"])
        http("POST", f"/task/{ids[-1]}/cancel")
    stream()
    contract = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    schema = {**contract, "$ref": "#/components/schemas/HistoryPage"}
    found, token = [], ""
    while token is not None:
        more = f"&page_token={token}" if token else ""
        page = http("GET", f"/history?page_size=2&status=cancelled{more}").json_body
        jsonschema.validate(page, schema)
        found += [task["task_id"] for task in page["tasks"]]
        token = page["next_page_token"]
    assert sorted(found) == sorted(ids)


def test_an_owner_sees_only_their_own(
    http: Http, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(owner: str, method: str, path: str, body: object = None) -> Any:
        monkeypatch.setattr(web, "caller", lambda: reader(owner))
        return http(method, path, body).json_body

    made = {}
    for owner in ("me", "you"):
        made[owner] = ask(owner, "POST", "/start", START)["task_id"]
        ask(owner, "POST", f"/task/{made[owner]}/cancel")
    stream()
    for owner, task_id in made.items():
        assert [task["task_id"] for task in ask(owner, "GET", "/history")["tasks"]] == [task_id]


#: What a token of this page never holds.
NO_KEYS = [
    "2026-11-20T99:99:99.999Z",
    "2026-11-20T23:59:60.000Z#task:x#000000000001",
    "2026-02-30T00:00:00.000Z",
    "٢٠٢٦-11-20T00:00:00.000Z",
    "1969-12-31T23:59:59.999Z",
]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=running", "/status"),
        ("task_type=other", "/task_type"),
        ("since=yesterday", "/since"),
        ("until=never", "/until"),
        ("since=2026-01-02&until=2026-01-01", "/since"),
        ("page_size=0", "/page_size"),
        ("page_token=AA", "/page_token"),
        *((f"page_token={token_of(key)}", "/page_token") for key in NO_KEYS),
        ("from=2026-01-01", "/from"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(http: Http, query: str, pointer: str) -> None:
    errors = problem(http("GET", f"/history?{query}"), 400, "INVALID_REQUEST")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]

"""docs/openapi.json is what the deployed application does, for good requests and for bad ones."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import unsupported_method

from app import app
from infra.package import ROOT
from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import held_exchange
from tests.e2e.waiting import ended

PREFIX = "/api/v1/data-collector"
START, TASK = f"{PREFIX}/start", f"{PREFIX}/task/{{task_id}}"
#: Collected by no other test of this stack, and only lately, so that nobody has to go on from long
#: ago.
SYMBOLS = ["ADABTC", "ADAETH", "ADABNB"]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SPEC: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
#: API Gateway answers 403 for a method that no route has; the application never hears of it.
NOT_OURS = [unsupported_method]

#: The same requests in every run.
bounded = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _schema(spec: dict[str, Any], mode: str) -> BaseSchema:
    config = {
        "generation": {"mode": mode, "deterministic": True, "no-shrink": True},
        # A schema cannot say that a task has expired, or that a key was used before.
        "checks": {
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "404", "409", "410", "422"],
            }
        },
    }
    return schemathesis.openapi.from_dict(spec, config=schemathesis.Config.from_dict(config))


def _small_requests() -> dict[str, Any]:
    """The contract, narrowed to collections of a day or two that the catalogue allows."""
    start, end = TODAY - timedelta(days=3), TODAY - timedelta(days=1)
    spec = copy.deepcopy(SPEC)
    for name in ("StartRequest", "FillRequest", "VerifyRequest"):
        body = spec["components"]["schemas"][name]
        body["required"] = ["symbols", "start", "end"]
        fields = body["properties"]
        fields["symbols"] = {"type": "array", "minItems": 1, "items": {"enum": SYMBOLS}}
        fields["start"] = {"enum": _spellings(start)}
        fields["end"] = {"enum": _spellings(end)}
        # Where they lead is tested by those who receive them.
        fields.pop("webhook", None)
        # JSON Schema takes 60.0 for an integer, and the application does not.
        whole = {"timeout_seconds": [60, 604800], "retries": [0, 5]}
        for each, values in {**whole, "retry_backoff_seconds": [1, 3600]}.items():
            if each in fields:
                fields[each] = {"enum": values}
    pause = spec["components"]["schemas"]["PauseRequest"]
    pause["properties"]["duration_seconds"] = {"enum": [1, 60, 31_536_000]}
    for path in (START, f"{PREFIX}/coverage/fill", f"{PREFIX}/coverage/verify"):
        request = spec["paths"][path]["post"]["requestBody"]
        request["required"] = True  # none would be a request for everything
        del request["content"]["application/json"]["examples"]
    _small_schedules(spec)
    # No schema can say what lies in the future.
    expiry = {"enum": [None, "2099-01-31", "2099-01-31T12:00:00Z", 4_073_500_800_000]}
    spec["components"]["schemas"]["NewKey"]["properties"]["expires_at"] = expiry
    # No schema can say which parameters exclude each other, or which tokens were ever given out.
    unsaid = ("schedule_id", "key_id", "exchange", "page_token")
    bounds = {"from": start, "since": start, "to": end, "until": end}
    for path in ("audit", "history"):
        asked = spec["paths"][f"{PREFIX}/{path}"]["get"]
        asked["parameters"] = [each for each in asked["parameters"] if each["name"] not in unsaid]
        for each in asked["parameters"]:
            if each["name"] in bounds:
                each["schema"] = {"enum": _spellings(bounds[each["name"]])[:3]}
    _known_candles(spec, start, end)
    return spec


def _known_candles(spec: dict[str, Any], start: datetime, end: datetime) -> None:
    """Symbols that the catalogue has, ranges that are none backwards, and no page in between."""
    pages = {"/candles": 10_000, "/candles/files": 100, "/coverage": 100, "/coverage/gaps": 100}
    for path, most in pages.items():
        operation = spec["paths"][PREFIX + path]["get"]
        operation["parameters"] = [
            each for each in operation["parameters"] if each["name"] != "page_token"
        ]
        for each in operation["parameters"]:
            if each["name"] in ("symbol", "symbols"):
                each["schema"] = {"enum": SYMBOLS}
            elif each["name"] in ("start", "end"):
                each["schema"] = {"enum": _spellings(start if each["name"] == "start" else end)}
            elif each["name"] in ("limit", "page_size"):
                each["schema"]["maximum"] = most


def _small_schedules(spec: dict[str, Any]) -> None:
    """Schedules that do not fire while the tests run, whatever day they run on."""
    schemas = spec["components"]["schemas"]
    schemas["ScheduledCollection"]["properties"] = {
        "symbols": {"enum": [SYMBOLS, SYMBOLS[:1]]},
        "timeframes": {"enum": [["1d"], ["1w", "1d"]]},
    }
    fields = schemas["NewSchedule"]["properties"]
    fields["expression"] = {"enum": ["cron(0 0 29 2 ? *)", "rate(366 days)"]}
    fields["timezone"] = {"enum": ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"]}
    # JSON Schema takes 60.0 for an integer here too.
    fields["freshness"] = {"enum": [None, {"max_lag_seconds": 2592000}]}


def _spellings(moment: datetime) -> list[str | int]:
    day = moment.date().isoformat()
    return [day, f"{day}T02:00:00+02:00", f"{day}T12:00:00Z", int(moment.timestamp() * 1000)]


fitting = _schema(_small_requests(), "positive")
#: Some routes take nothing that could be wrong.
unfitting = _schema(SPEC, "negative").exclude(path_regex="/(active|stats|status|metrics)$")
whole = _schema(SPEC, "positive")


@pytest.fixture(scope="module")
def api(knowing: Cloud) -> Iterator[Client]:
    """A client of a stack that knows its symbols and prices; what is left running is cancelled."""
    with Client(knowing.api_url) as api:
        yield api
        for task in api.active():
            with suppress(Rejected):  # ended meanwhile
                api.cancel(task["task_id"])
        for schedule in api.schedules():
            api.delete_schedule(schedule["schedule_id"])


@fitting.parametrize()
@bounded
def test_requests_that_fit_the_contract_are_taken(
    case: schemathesis.Case, cloud: Cloud, api: Client
) -> None:
    case.call_and_validate(cloud.api_url, excluded_checks=NOT_OURS)
    if case.path.endswith("/pause"):
        api.resume()  # or nothing that follows is collected


@unfitting.parametrize()
@bounded
def test_requests_that_do_not_fit_the_contract_are_refused_as_it_says(
    case: schemathesis.Case, cloud: Cloud, api: Client
) -> None:
    if case.meta and case.meta.generation.mode.is_positive:
        return  # the other test's; this one's schema would have it collect everything
    case.call_and_validate(cloud.api_url, excluded_checks=NOT_OURS)


def test_every_answer_in_the_life_of_a_task_is_the_contracts(cloud: Cloud, api: Client) -> None:
    def ask(path: str, method: str, expected: int, **parts: Any) -> Any:
        case = whole[path][method].Case(**parts)
        answer = case.call_and_validate(cloud.api_url, excluded_checks=NOT_OURS)
        assert answer.status_code == expected
        return answer.json()

    month = {"symbols": SYMBOLS, "start": (TODAY - timedelta(days=30)).date().isoformat()}
    keyed = {"body": month, "headers": {"Idempotency-Key": str(uuid.uuid4())}}
    with held_exchange(cloud):
        task_id = ask(START, "POST", 202, **keyed)["task_id"]
        assert ask(START, "POST", 202, **keyed)["task_id"] == task_id
        ask(START, "POST", 422, **(keyed | {"body": {**month, "priority": "high"}}))
        this = {"path_parameters": {"task_id": task_id}}
        ask(TASK, "GET", 200, **this)
        ask(f"{PREFIX}/tasks/active", "GET", 200)
        ask(f"{TASK}/cancel", "POST", 202, **this)
        ask(f"{TASK}/cancel", "POST", 200, **this)
    ask(f"{TASK}/retry", "POST", 202, **this)
    ended(api, task_id)
    ask(TASK, "GET", 200, **this)
    ask(f"{TASK}/cancel", "POST", 409, **this)
    ask(f"{TASK}/retry", "POST", 409, **this)
    ask(f"{PREFIX}/tasks", "GET", 200, query={"page_size": 1, "status": "completed"})
    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["TasksTable"],
        Key={"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": "META"}},
        UpdateExpression="SET #ttl = :past",
        ExpressionAttributeNames={"#ttl": "ttl"},
        ExpressionAttributeValues={":past": {"N": "1"}},
    )
    for path, method in ((TASK, "GET"), (f"{TASK}/cancel", "POST"), (f"{TASK}/retry", "POST")):
        ask(path, method, 410, **this)


def test_the_contract_names_every_route_of_the_application_and_no_other() -> None:
    documented = {
        (path, method.upper()) for path, methods in SPEC["paths"].items() for method in methods
    }
    routed = {
        ("/api" + path, method)
        for path, methods in app.routes.items()
        if path.startswith("/v1/")  # the others are pages for people, and the contract itself
        for method in methods
    }
    assert documented == routed

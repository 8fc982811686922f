"""The API is flat: no route that reads makes more AWS calls, or reads more, where there are more
tasks. What it takes in milliseconds: `make bench BENCH=flat`."""

from __future__ import annotations

import pytest

from chalicelib.core.backend import Backend
from tests.doubles.aws import Aws
from tests.doubles.read_units import ReadUnits
from tests.doubles.tasks import fill
from tests.handlers.conftest import Http

#: Route -> AWS calls where there is no task; where there are more than a page of each kind; and
#: DynamoDB read units there, at the most.
CALLS = {
    # The index, the tasks with what they have counted, the exchange's limit.
    "/tasks": (1, 3, 30),
    # One query for each type, or each state.
    "/tasks?status=failed": (2, 3, 30),
    "/tasks?status=running": (2, 4, 70),
    "/tasks?status=cancelled&task_type=data_collection": (1, 2, 30),
    "/tasks?task_type=symbol_refresh": (5, 5, 5),
    "/tasks/active": (1, 3, 70),
    "/tasks/stats": (2, 2, 10),
    "/status": (9, 9, 12),
    "/metrics": (12, 12, 20),
}


def ask(http: Http, aws: Aws, route: str) -> tuple[int, float]:
    """The AWS calls of a request, and its read units."""
    units = ReadUnits(aws)
    aws.counts.clear()
    aws.hooks.append(units)
    assert http("GET", route).status_code == 200
    aws.hooks.remove(units)
    return sum(aws.counts.values()), units.read


@pytest.mark.parametrize("route", CALLS)
def test_a_route_makes_the_same_calls_however_many_tasks_there_are(
    http: Http, aws: Aws, backend: Backend, route: str
) -> None:
    empty, filled, most_units = CALLS[route]
    assert ask(http, aws, route)[0] == empty
    fill(backend, 75, 25)
    few = ask(http, aws, route)
    aws.dynamodb.tables["tasks"].items.clear()
    fill(backend, 700, 50)
    many = ask(http, aws, route)
    assert few[0] == many[0] == filled
    assert many[1] <= most_units
    # A query of more narrow rows, or of more seconds, may cost some units more.
    assert many[1] - few[1] <= 8


def test_counts_and_pages_tell_of_all_tasks(http: Http, backend: Backend) -> None:
    fill(backend, 90, 30)
    counts = {"pending": 0, "running": 30, "completed": 30, "failed": 30, "cancelled": 30}
    stats = http("GET", "/tasks/stats").json_body
    assert (stats["task_counts"], stats["active_tasks_count"]) == (counts, 30)
    assert http("GET", "/status").json_body["task_counts"] == counts
    for path, listed in (
        ("/tasks", 120),
        ("/tasks?status=failed", 30),
        ("/tasks?task_type=data_collection", 120),
        ("/tasks/active", 30),
    ):
        found, token = [], ""
        while token is not None:
            mark = "&" if "?" in path else "?"
            page = http("GET", f"{path}{mark}page_size=13{token}").json_body
            found += [(task["created_at"], task["task_id"]) for task in page["tasks"]]
            following = page["next_page_token"]
            token = None if following is None else f"&page_token={following.replace('#', '%23')}"
        assert len({*found}) == len(found) == listed
        assert found == sorted(found, reverse=path != "/tasks/active")

"""The beginning of a task's id stands for the task, where only one begins so."""

import httpx
import pytest

from tests.cli.fake_api import ENDED_TASK, PREFIX, TASK_ID, FakeApi, task
from tests.cli.running import run

EXPIRED = str(ENDED_TASK["task_id"])


def asked(ran) -> list[str]:
    """The requests for one task."""
    return [sent for sent in ran.api.sent() if f"{PREFIX}/task/" in sent]


@pytest.mark.parametrize(
    ("args", "request_sent"),
    [
        (["task", "{}"], f"GET {PREFIX}/task/{TASK_ID}"),
        (["task", "{}", "--wait"], f"GET {PREFIX}/task/{TASK_ID}"),
        (["cancel", "{}"], f"POST {PREFIX}/task/{TASK_ID}/cancel"),
        (["retry", "{}"], f"POST {PREFIX}/task/{TASK_ID}/retry"),
        (["watch", "{}"], f"GET {PREFIX}/task/{TASK_ID}"),
        (["watch", "task:{}"], f"GET {PREFIX}/task/{TASK_ID}"),
    ],
    ids=lambda args: " ".join(args) if isinstance(args, list) else "",
)
@pytest.mark.parametrize("short", [TASK_ID[:6], TASK_ID[:9].upper(), TASK_ID[:-1]])
def test_every_command_takes_the_beginning_of_an_id(args, request_sent, short) -> None:
    ran = run(*(arg.format(short) for arg in args))
    assert ran.code == 0
    assert request_sent in asked(ran)


def test_the_trail_of_an_expired_task_is_found_by_its_beginning() -> None:
    for args in (["audit", "--task"], ["audit", "verify"]):
        ran = run(*args, EXPIRED[:7])
        audits = [request for request in ran.api.requests if request.url.path.endswith("/audit")]
        assert {request.url.params["task_id"] for request in audits} == {EXPIRED}
    ran = run("audit", "verify", f"task:{EXPIRED[:7]}")
    assert ran.api.requests[-1].url.params["task_id"] == EXPIRED


def test_a_whole_id_costs_no_request_more() -> None:
    assert run("task", TASK_ID).api.sent() == [f"GET {PREFIX}/task/{TASK_ID}"]


def test_of_several_tasks_none_is_touched_and_all_are_named() -> None:
    ran = run("cancel", "0197")
    assert ran.code == 2
    assert asked(ran) == []
    for task_id in (TASK_ID, EXPIRED):
        assert task_id in ran.err
    assert run("cancel", "0197", "--json").json["reason"] == "USAGE"


def test_what_begins_no_id_is_asked_for_as_it_is() -> None:
    for text in ("ffff", "no-id", "x" * 40):
        assert asked(run("task", text)) == [f"GET {PREFIX}/task/{text}"]


def test_as_many_pages_are_read_as_there_are_up_to_fifty() -> None:
    endless = {
        route: [
            httpx.Response(200, json={"tasks": [task()], "next_page_token": f"t{at}"})
            for at in range(60)
        ]
        for route in ("GET /tasks", "GET /history")
    }
    ran = run("task", TASK_ID[:6], api=FakeApi(endless))
    assert ran.code == 0
    assert len(ran.api.requests) == 51

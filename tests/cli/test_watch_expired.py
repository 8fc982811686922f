"""Watching tasks that expire: five minutes after its end the server no longer knows a task."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError

from market_data_collector.effects import Unheard
from tests.cli.fake_api import TASK_ID, FakeApi, problem, task
from tests.cli.test_watch import TOPIC, Server, error, lines, snapshot, update, watch

OTHER_ID = "b" * 8
OTHER = f"task:{OTHER_ID}"
PRICES = "prices:BTCUSDT"
GONE = problem(410, "Task expired", "its trail is at /audit", "TASK_EXPIRED")
REFUSED = error("TASK_EXPIRED", "a task has expired")
LOST = ConnectionClosedError(None, None)


def price(number: int) -> dict:
    return update(number, PRICES, price=float(number), time="2026-11-23T12:00:00Z")


def both_running() -> list[dict]:
    return [
        snapshot(0, task=task("running", 1)),
        snapshot(0, OTHER, task=task("running", 1)),
    ]


def subscribed(*topics: str) -> dict:
    return {"action": "subscribe", "topics": list(topics)}


def test_after_a_silence_an_ended_task_is_not_asked_for_beside_the_others() -> None:
    server = Server([snapshot(0, task=task("completed")), price(1), None, price(2)])
    ran = watch(TASK_ID, PRICES, "--json", server=server)
    assert server.said == [
        subscribed(TOPIC, PRICES),
        {"action": "snapshot", "topics": [PRICES]},
    ]
    assert ran.code == 130


def test_on_a_new_connection_an_ended_task_that_expired_does_not_end_the_others() -> None:
    first = [*both_running(), update(1, task=task("completed")), LOST]
    second = [
        REFUSED,
        snapshot(1, OTHER, task=task("running", 2)),
        update(2, OTHER, task=task("completed")),
    ]
    server = Server(first, second)
    api = FakeApi({"GET /task": [task("running", 1), GONE]})  # the first one asked for is alive
    ran = watch(OTHER_ID, TASK_ID, "--json", server=server, api=api)
    assert server.said[1:] == [subscribed(OTHER), subscribed(TOPIC), subscribed(OTHER)]
    assert ran.code == 0
    assert lines(ran)[-1]["task"]["status"] == "completed"
    assert "error" not in {message["type"] for message in lines(ran)}
    assert ran.err == ""


def test_on_a_new_connection_it_is_seen_that_an_ended_task_was_retried() -> None:
    first = [snapshot(0, task=task("failed", 2)), price(1), LOST]
    second = [snapshot(4, task=task("running", 3, attempt=2)), price(2), None]
    server = Server(first, second)
    ran = watch(TASK_ID, PRICES, "--json", server=server)
    assert [message["task"]["attempt"] for message in lines(ran) if "task" in message] == [1, 2]
    # It may bring news again, so a silence of it is broken again.
    assert server.said[1:] == [
        subscribed(PRICES),
        subscribed(TOPIC),
        {"action": "snapshot", "topics": [TOPIC, PRICES]},
    ]


def test_a_task_that_expires_unseen_is_told_of_and_the_others_are_watched_on() -> None:
    first = [*both_running(), LOST]
    second = [REFUSED, snapshot(1, OTHER, task=task("completed"))]
    server = Server(first, second)
    alive = task("running", 1)
    ran = watch(
        *(TASK_ID, OTHER_ID), server=server, api=FakeApi({"GET /task": [GONE, alive, task()]})
    )
    assert server.said[1:] == [subscribed(TOPIC, OTHER), subscribed(OTHER)]
    assert ran.code == 2
    assert f"{TOPIC}: the task expired before its end was seen" in ran.err
    assert "/audit" in ran.err
    assert ran.out.count("Completed: 18 of 18 units") == 1


def test_a_program_is_told_of_it_in_the_output() -> None:
    server = Server([*both_running(), LOST], [REFUSED, update(1, OTHER, task=task("completed"))])
    api = FakeApi({"GET /task": [GONE, task("running", 1)]})
    ran = watch(TASK_ID, OTHER_ID, "--json", server=server, api=api)
    assert [message for message in lines(ran) if message["type"] == "error"] == [
        {
            "type": "error",
            "topic": TOPIC,
            "reason": "TASK_EXPIRED",
            "detail": "Task expired (410): its trail is at /audit",
        }
    ]


@pytest.mark.parametrize("connection", [[REFUSED], Unheard("no route")])
@pytest.mark.parametrize("tty", [False, True])
def test_a_task_that_expired_before_it_was_watched_ends_the_watch(
    connection: list[dict] | Unheard, tty: bool
) -> None:
    api = FakeApi({"GET /task": [GONE]})
    ran = watch(TASK_ID, server=Server(connection), api=api, err_tty=tty)
    assert ran.code == 2
    assert "expired before its end was seen" in " ".join(ran.err.split())


def test_a_refusal_that_the_api_does_not_confirm_is_asked_about_again_after_a_silence() -> None:
    server = Server(
        [REFUSED, None, snapshot(0, task=task("running", 1)), update(1, task=task("completed"))]
    )
    ran = watch(TASK_ID, "--json", server=server, api=FakeApi({"GET /task": [task("running", 1)]}))
    assert server.said[1:] == [{"action": "snapshot", "topics": [TOPIC]}]
    assert ran.code == 0


def test_where_the_api_cannot_say_what_expired_the_connection_is_made_again() -> None:
    away = problem(503, "Not ready", "restarting", "BACKEND_UNAVAILABLE")
    server = Server([REFUSED], [snapshot(0, task=task("completed"))])
    # Before anything was heard, the first failure is final: it goes on by polling.
    api = FakeApi({"GET /task": [*[away] * 3, task("completed")]})
    ran = watch(TASK_ID, "--json", server=server, api=api)
    assert (ran.code, len(server.opened)) == (0, 1)
    heard = Server(
        [snapshot(0, task=task("running", 1)), REFUSED], [snapshot(1, task=task("completed"))]
    )
    ran = watch(TASK_ID, "--json", server=heard, api=FakeApi({"GET /task": [away]}))
    assert (ran.code, len(heard.opened)) == (0, 2)


@pytest.mark.parametrize(
    ("first", "code"), [(task("completed"), 0), (task("completed", failed=1), 3)]
)
def test_of_a_task_that_expired_before_the_last_one_ended_its_seen_end_is_shown(
    first: dict, code: int
) -> None:
    server = Server(
        [
            *both_running(),
            update(1, task=first),
            update(1, OTHER, task=task("completed")),
        ]
    )
    api = FakeApi({"GET /task": [GONE, task("completed")]})
    ran = watch(TASK_ID, OTHER_ID, server=server, api=api)
    assert ran.code == code
    assert ran.out.count("Completed") == 2
    assert "expired" not in ran.err


def test_polling_goes_on_after_an_ended_task_has_expired() -> None:
    # By turns the one and the other, and at last both once more for their summaries.
    replies = [task("completed"), task("running", 9), GONE, task("running", 10), task("completed")]
    api = FakeApi({"GET /task": [*replies, GONE, task("completed")]})
    ran = watch(TASK_ID, OTHER_ID, server=Server(Unheard("no route")), api=api)
    assert ran.code == 0
    assert ran.out.count("Completed") == 2
    assert "expired" not in ran.err
    # Two more look for whose id the short one begins.
    assert len(api.requests) == 2 + 1 + 7


def test_polling_tells_of_a_task_that_expires_unseen_and_goes_on() -> None:
    replies = [task("running", 1), task("running", 9), GONE, task("running", 10)]
    api = FakeApi({"GET /task": [*replies, task("completed")]})
    ran = watch(TASK_ID, OTHER_ID, server=Server(Unheard("no route")), api=api)
    assert ran.code == 2
    assert ran.err.count(f"{TOPIC}: the task expired before its end was seen") == 1
    assert ran.out.count("Completed: 18 of 18 units") == 1

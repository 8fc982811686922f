"""WebSocket clients: what they send is answered, whatever it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.connecting import connect, disconnect, receive
from chalicelib.gateways.connection_table import LIFE_SECONDS, MOST_TOPICS
from chalicelib.submitting import submit_collection


@pytest.fixture
def say(run, desk, aws):
    """Send one message as the connection `me`; gives what it was answered."""

    def say(message):
        aws.sockets.sent.clear()
        run(receive(desk, "me", message if isinstance(message, str) else json.dumps(message)))
        return [json.loads(text) for to, text in aws.sockets.sent if to == "me"]

    run(connect(desk, "me"))
    return say


def test_a_ping_is_answered(say) -> None:
    assert say({"action": "ping"}) == [{"type": "pong"}]


def test_a_subscription_is_confirmed_with_a_snapshot(run, desk, say, clock) -> None:
    task_id = run(submit_collection(desk, {"timeframes": ["1d"]}, "me", "r"))
    topic = f"task:{task_id}"
    confirmed, snapshot = say({"action": "subscribe", "topics": [topic, "tasks", topic]})
    assert confirmed == {"type": "subscribed", "topics": [topic, "tasks"]}
    assert (snapshot["type"], snapshot["task"]["status"]) == ("snapshot", "pending")
    assert run(desk.connections.subscribers(topic, clock())) == ["me"]


def test_an_unsubscribed_topic_is_no_longer_heard(run, desk, say, clock) -> None:
    say({"action": "subscribe", "topics": ["tasks"]})
    assert say({"action": "unsubscribe", "topics": ["tasks"]})[0]["type"] == "unsubscribed"
    assert run(desk.connections.subscribers("tasks", clock())) == []


def test_an_unknown_task_is_told_to_the_client_and_nothing_is_subscribed(run, desk, say) -> None:
    (answer,) = say({"action": "subscribe", "topics": ["tasks", "task:unknown"]})
    assert (answer["type"], answer["reason"]) == ("error", "TASK_NOT_FOUND")
    assert run(desk.connections.topics_of("me")) == []


def test_a_connection_holds_only_so_many_topics(run, desk, say, clock) -> None:
    for number in range(MOST_TOPICS):
        run(desk.connections.subscribe("me", f"task:{number}", clock()))
    (answer,) = say({"action": "subscribe", "topics": ["tasks"]})
    assert answer["reason"] == "TOO_MANY_TOPICS"


def test_a_closed_connection_leaves_nothing(run, desk, say, aws, settings) -> None:
    say({"action": "subscribe", "topics": ["tasks"]})
    run(disconnect(desk, "me"))
    assert aws.items(settings.connections_table) == []


def test_a_connection_whose_end_was_never_told_ends_by_itself(run, desk, say, clock) -> None:
    say({"action": "subscribe", "topics": ["tasks"]})
    clock.advance(LIFE_SECONDS * 1000)
    assert run(desk.connections.subscribers("tasks", clock())) == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "7",
        '{"action": "dance"}',
        '{"action": ["ping"]}',
        '{"action": "subscribe"}',
        '{"action": "subscribe", "topics": []}',
        '{"action": "subscribe", "topics": "tasks"}',
        '{"action": "subscribe", "topics": [7]}',
        '{"action": "subscribe", "topics": ["prices"]}',
        '{"action": "subscribe", "topics": ["task:' + "x" * 200 + '"]}',
    ],
)
def test_a_message_that_makes_no_sense_is_answered_with_an_error(say, body) -> None:
    (answer,) = say(body)
    assert answer["type"] == "error"


def test_a_topic_that_is_no_unicode_is_answered_with_an_error(say) -> None:
    (answer,) = say('{"action": "subscribe", "topics": ["task:\\ud800"]}')
    assert answer["type"] == "error"


def test_a_message_nested_without_end_is_answered_with_an_error(say) -> None:
    (answer,) = say("[" * 30_000)
    assert answer["type"] == "error"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.text(),
        st.dictionaries(
            st.sampled_from(["action", "topics", "x"]),
            st.sampled_from(["ping", "subscribe", "unsubscribe"])
            | st.lists(st.sampled_from(["tasks", "task:", "task:a", "x"]), max_size=3)
            | st.integers(),
        ).map(json.dumps),
    )
)
def test_every_message_is_answered(say, body: str) -> None:
    assert len(say(body)) >= 1

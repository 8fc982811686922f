"""WebSocket clients: what they send is answered, whatever it is."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.access.caller import Caller
from chalicelib.candles.store import CandleStore
from chalicelib.core.errors import CallFailed, QuotaExceeded, TicketRefused
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.live.connections import (
    LIFE_SECONDS,
    MOST_MESSAGES,
    MOST_TOPICS,
    RATE_SECONDS,
    ConnectionTable,
)
from chalicelib.live.receive import MOST_BYTES, connect, disconnect, receive
from chalicelib.live.sequence_table import SequenceTable
from chalicelib.live.tickets import issue_ticket
from chalicelib.tasks.submit import submit_collection
from tests.doubles.faults import Refuse

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}


@pytest.fixture
def known(run, backend, clock):
    """A catalogue, and prices of it."""
    run(
        CatalogueTable(backend).write_catalogue(
            {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}, 6000, clock()
        )
    )
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "62000.5"}, clock()))


@pytest.fixture
def say(run, worker, aws):
    """Send one message as the connection `me`; gives what it was answered."""

    def say(message, who="me"):
        aws.sockets.sent.clear()
        body = message if isinstance(message, str) else json.dumps(message)
        run(receive(worker, CandleStore(worker), who, body))
        return [json.loads(text) for to, text in aws.sockets.sent if to == who]

    run(connect(worker, "me"))
    return say


def subscribe(*topics):
    return {"action": "subscribe", "topics": list(topics)}


def topics_of(aws, settings) -> set[str]:
    """The streams that rows of the table connect anybody with."""
    rows = [(row["pk"]["S"], row["sk"]["S"]) for row in aws.items(settings.connections_table)]
    return {pk[6:] for pk, sk in rows if pk.startswith("TOPIC#") and sk.startswith("CONN#")}


def test_a_ping_is_answered(say) -> None:
    assert say({"action": "ping"}) == [{"type": "pong"}]


def test_a_subscription_is_confirmed_with_a_snapshot_of_every_topic(
    run, backend, say, clock, known
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    topic = f"task:{task_id}"
    wanted = (topic, "tasks", topic, "prices:BTCUSDT", "prices:ETHUSDT", "candles:BTCUSDT:1m")
    confirmed, *snapshots = say(subscribe(*wanted))
    assert confirmed == {"type": "subscribed", "topics": list(dict.fromkeys(wanted))}
    assert [snapshot["topic"] for snapshot in snapshots] == confirmed["topics"]
    assert {(snapshot["type"], snapshot["sequence"]) for snapshot in snapshots} == {("snapshot", 0)}
    task, tasks, price, none, candles = snapshots
    assert task["task"]["status"] == "pending"
    assert [one["task_id"] for one in tasks["tasks"]] == [task_id]
    assert tasks["count"] == 1
    assert (price["price"], none["price"], candles["candle"]) == (62000.5, None, None)
    for topic in confirmed["topics"]:
        assert run(ConnectionTable(backend).subscribers(topic, clock())) == {"me": None}


def test_the_snapshot_of_candles_is_the_newest_one_stored(run, backend, say, fleet, known) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    _, snapshot = say(subscribe("candles:BTCUSDT:1d"))
    candle = snapshot["candle"]
    assert candle["open_time"] == "2026-03-03T00:00:00.000Z"
    assert candle["close_time"] == "2026-03-03T23:59:59.999Z"
    assert candle["low"] <= candle["open"] <= candle["high"]
    assert set(candle) > {"close", "volume", "quote_volume", "trades", "taker_buy_volume"}


def test_a_damaged_object_costs_the_snapshot_its_candle_and_nothing_else(
    run, backend, say, fleet, known, aws
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    objects = aws.s3.buckets["candles"].objects
    for key in objects:
        objects[key] = b"not a Parquet file"
    _, *snapshots = say({"action": "subscribe", "topics": ["candles:BTCUSDT:1d", "prices:BTCUSDT"]})
    assert snapshots[0]["candle"] is None
    assert snapshots[1]["price"] == 62000.5


def test_a_snapshot_can_be_asked_for_again(run, backend, say, known, clock) -> None:
    say(subscribe("prices:BTCUSDT"))
    run(SequenceTable(backend).next("prices:BTCUSDT", clock()))
    (again,) = say({"action": "snapshot", "topics": ["prices:BTCUSDT"]})
    assert (again["type"], again["sequence"], again["price"]) == ("snapshot", 1, 62000.5)


def test_an_unsubscribed_topic_is_no_longer_heard(run, backend, say, clock, aws, settings) -> None:
    say(subscribe("tasks"))
    assert say({"action": "unsubscribe", "topics": ["tasks"]})[0]["type"] == "unsubscribed"
    assert run(ConnectionTable(backend).subscribers("tasks", clock())) == {}
    assert say({"action": "unsubscribe", "topics": ["tasks"]})[0]["type"] == "unsubscribed"


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("task:unknown", "TASK_NOT_FOUND"),
        ("prices:NOPE", "UNKNOWN_SYMBOL"),
        ("prices:btcusdt", "UNKNOWN_SYMBOL"),
        ("candles:NOPE:1m", "UNKNOWN_SYMBOL"),
        ("candles:BTCUSDT:7m", "UNKNOWN_TOPIC"),
        ("weather:BTCUSDT", "UNKNOWN_TOPIC"),
    ],
)
def test_where_one_topic_is_unknown_nothing_is_subscribed(
    say, known, aws, settings, topic, reason
) -> None:
    (answer,) = say(subscribe("tasks", topic))
    assert (answer["type"], answer["reason"]) == ("error", reason)
    assert topics_of(aws, settings) == set()


def test_a_symbol_in_the_wrong_case_is_told_the_right_one(say, known) -> None:
    assert "did you mean BTCUSDT?" in say(subscribe("prices:btcusdt"))[0]["detail"]


def test_a_delisted_symbol_can_be_listened_to_and_has_no_price(run, say, known, backend) -> None:
    table = CatalogueTable(backend)
    run(table.write_catalogue({"BTCUSDT": "TRADING"}, 6000, 2, delisted={"OLDUSDT": 1}))
    subscribed, snapshot = say(subscribe("prices:OLDUSDT"))
    assert (snapshot["price"], subscribed["type"]) == (None, "subscribed")


def test_before_the_first_catalogue_a_client_is_told_what_to_do(say) -> None:
    (answer,) = say(subscribe("prices:BTCUSDT"))
    assert answer["reason"] == "NO_SYMBOLS_YET"


def test_a_connection_holds_only_so_many_topics(run, backend, say, aws, settings) -> None:
    many = [f"task:{number}" for number in range(MOST_TOPICS)]
    run(ConnectionTable(backend).change_topics("me", lambda held: held | set(many)))
    (answer,) = say(subscribe("tasks"))
    assert answer["reason"] == "TOO_MANY_TOPICS"
    assert topics_of(aws, settings) == set()
    assert say(subscribe(*many, "tasks"))[0]["reason"] == "TOO_MANY_TOPICS"


def test_a_message_above_the_limit_is_refused_and_one_at_it_is_read(say) -> None:
    long = json.dumps({"action": "ping", "x": "a" * (MOST_BYTES - 27)})
    assert len(long) == MOST_BYTES
    assert say(long) == [{"type": "pong"}]
    assert say(long + " ")[0]["reason"] == "MESSAGE_TOO_LARGE"


def test_who_sends_too_much_is_told_once_and_heard_again_later(say, clock) -> None:
    clock.advance_to((clock() // (RATE_SECONDS * 1000) + 1) * RATE_SECONDS * 1000)
    for _ in range(MOST_MESSAGES):
        assert say({"action": "ping"}) == [{"type": "pong"}]
    assert say({"action": "ping"})[0]["reason"] == "RATE_LIMITED"
    assert say({"action": "ping"}) == []
    clock.advance(RATE_SECONDS * 1000)
    assert say({"action": "ping"}) == [{"type": "pong"}]


def test_one_connections_flood_is_not_anothers(run, worker, say) -> None:
    run(connect(worker, "other"))
    for _ in range(2 * MOST_MESSAGES):
        say({"action": "ping"})
    assert say({"action": "ping"}, "other") == [{"type": "pong"}]


def test_a_closed_connection_leaves_nothing_but_numbers(
    run, backend, say, aws, settings, known
) -> None:
    say(subscribe("tasks", "prices:BTCUSDT"))
    run(disconnect(backend, "me"))
    rows = [(row["pk"]["S"], row["sk"]["S"]) for row in aws.items(settings.connections_table)]
    assert not [row for row in rows if "CONN" in row[0] + row[1]]


def test_a_connection_whose_end_was_never_told_ends_by_itself(
    run, backend, say, clock, aws, settings
) -> None:
    say(subscribe("tasks"))
    clock.advance(LIFE_SECONDS * 1000)
    assert run(ConnectionTable(backend).subscribers("tasks", clock())) == {}
    assert run(ConnectionTable(backend).listened("tasks", clock())) == set()
    assert say({"action": "ping"})[0]["reason"] == "CONNECTION_EXPIRED"
    clock.advance(2 * LIFE_SECONDS * 1000)
    aws.dynamodb.expire(settings.connections_table)
    assert aws.items(settings.connections_table) == []


def test_an_older_connection_does_not_shorten_what_a_younger_one_needs(
    run, worker, say, clock
) -> None:
    clock.advance(LIFE_SECONDS * 500)
    run(connect(worker, "young"))
    say(subscribe("tasks"), "young")
    say(subscribe("tasks"))
    clock.advance(LIFE_SECONDS * 999)
    assert run(ConnectionTable(worker).listened("tasks", clock())) == {"tasks"}


def test_a_backing_service_that_fails_is_told_to_the_client(say, aws, known) -> None:
    aws.hooks.append(Refuse("dynamodb.BatchWriteItem"))
    (answer,) = say(subscribe("prices:BTCUSDT"))
    assert (answer["type"], answer["reason"]) == ("error", "BACKEND_UNAVAILABLE")


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
        '{"action": "subscribe", "topics": [["tasks"]]}',
        '{"action": "snapshot", "topics": ["prices"]}',
        '{"action": "subscribe", "topics": ["task:' + "x" * 200 + '"]}',
        '{"action": "subscribe", "topics": ["task:\\ud800"]}',
        "[" * 10_000,
    ],
)
def test_a_message_that_makes_no_sense_is_answered_with_an_error(say, body) -> None:
    (answer,) = say(body)
    assert answer["type"] == "error"
    assert answer["reason"]
    assert answer["detail"]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.one_of(
        st.text(),
        st.dictionaries(
            st.sampled_from(["action", "topics", "x"]),
            st.sampled_from(["ping", "subscribe", "unsubscribe", "snapshot"])
            | st.lists(st.sampled_from(["tasks", "task:", "task:a", "x", "prices:A"]), max_size=3)
            | st.integers(),
        ).map(json.dumps),
    )
)
def test_every_message_is_answered(say, clock, body: str) -> None:
    clock.advance(RATE_SECONDS * 1000 // MOST_MESSAGES)
    assert len(say(body)) >= 1


# --- tickets ------------------------------------------------------------------------------------


def reader(owner: str, key_id: str | None = None) -> Caller:
    return Caller(owner, frozenset({"read"}), key_id)


@pytest.fixture
def guarded(worker):
    """A backend with authentication on."""
    return dataclasses.replace(
        worker, settings=dataclasses.replace(worker.settings, authentication="iam")
    )


def test_a_ticket_opens_one_connection_for_its_owner(run, guarded, clock) -> None:
    issued = run(issue_ticket(guarded, reader("arn:me")))
    assert issued["url"] == "wss://sockets.test"
    run(connect(guarded, "first", issued["ticket"]))
    assert run(ConnectionTable(guarded).count_message("first", clock())).caller == reader("arn:me")
    with pytest.raises(TicketRefused):
        run(connect(guarded, "second", issued["ticket"]))


def test_a_ticket_is_good_for_a_minute(run, guarded, clock) -> None:
    ticket = run(issue_ticket(guarded, reader("arn:me")))["ticket"]
    clock.advance(60_000)
    with pytest.raises(TicketRefused):
        run(connect(guarded, "late", ticket))


@pytest.mark.parametrize("ticket", ["", "wrong", "x" * 5000, "\ud800"])
def test_a_wrong_ticket_is_refused_even_where_none_is_needed(run, backend, guarded, ticket) -> None:
    for either in (backend, guarded):
        with pytest.raises(TicketRefused):
            run(connect(either, "c", ticket))


def test_where_a_ticket_is_needed_none_is_refused(run, guarded) -> None:
    with pytest.raises(TicketRefused):
        run(connect(guarded, "c", None))


def test_a_ticket_is_stored_as_its_hash_only(run, backend, aws, settings) -> None:
    ticket = run(issue_ticket(backend, reader("me")))["ticket"]
    assert ticket not in str(aws.items(settings.connections_table))


def test_a_ticket_that_cannot_be_looked_up_refuses_nobody_and_lets_nobody_in(
    run, backend, aws
) -> None:
    ticket = run(issue_ticket(backend, reader("me")))["ticket"]
    aws.hooks.append(Refuse("dynamodb.DeleteItem"))
    with pytest.raises(CallFailed):
        run(connect(backend, "c", ticket))
    run(connect(backend, "c", ticket))


def test_with_owners_others_tasks_are_unknown_and_not_listed(run, guarded, aws, known) -> None:
    mine = run(submit_collection(guarded, BODY, "arn:me", "r"))
    yours = run(submit_collection(guarded, BODY, "arn:you", "r"))
    run(connect(guarded, "c", run(issue_ticket(guarded, reader("arn:me")))["ticket"]))

    def say(topic):
        aws.sockets.sent.clear()
        run(receive(guarded, CandleStore(guarded), "c", json.dumps(subscribe(topic))))
        return [json.loads(text) for _, text in aws.sockets.sent]

    assert say(f"task:{yours}")[0]["reason"] == "TASK_NOT_FOUND"
    assert say(f"task:{mine}")[1]["task"]["task_id"] == mine
    assert [one["task_id"] for one in say("tasks")[1]["tasks"]] == [mine]


# --- limits of the owner --------------------------------------------------------------------------


@pytest.fixture
def limited(backend):
    return dataclasses.replace(
        backend, settings=dataclasses.replace(backend.settings, owner_connections=2)
    )


def test_no_more_connections_open_than_an_owner_may_have(run, limited, aws) -> None:
    for name in ("one", "two"):
        run(connect(limited, name))
    with pytest.raises(QuotaExceeded) as refused:
        run(connect(limited, "three"))
    assert (refused.value.status, refused.value.reason) == (429, "QUOTA_CONNECTIONS")
    assert not [item for item in aws.items("connections") if "three" in item["pk"]["S"]]
    run(disconnect(limited, "one"))
    run(connect(limited, "three"))
    with pytest.raises(QuotaExceeded):
        run(connect(limited, "four"))
    ticket = run(issue_ticket(limited, reader("another")))["ticket"]
    run(connect(limited, "four", ticket))


def test_a_connection_that_never_said_goodbye_gives_its_place_back_when_it_is_over(
    run, limited, clock, aws
) -> None:
    for name in ("one", "two"):
        run(connect(limited, name))
    clock.advance(LIFE_SECONDS * 1000 - 1000)
    with pytest.raises(QuotaExceeded):
        run(connect(limited, "three"))
    clock.advance(1000)
    run(connect(limited, "three"))
    clock.advance(LIFE_SECONDS * 1000)
    aws.dynamodb.expire("connections")
    for name in ("four", "five"):
        run(connect(limited, name))


def test_a_connection_that_is_found_gone_gives_its_place_back(run, limited, aws) -> None:
    for name in ("one", "two"):
        run(connect(limited, name))
    aws.sockets.gone.add("one")
    assert not run(ConnectionTable(limited).send("one", "text"))
    run(connect(limited, "three"))

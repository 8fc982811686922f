"""What the WebSocket's gateways rely on, on an AWS that others wrote: tickets that work once, rows,
numbers, and the order of a FIFO queue."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chalicelib.access.caller import Caller
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.errors import RequestRejected
from chalicelib.live.connections import LIFE_SECONDS, MOST_MESSAGES, RATE_SECONDS, ConnectionTable
from chalicelib.live.queue import PushQueue
from chalicelib.live.sequence_table import SequenceTable
from chalicelib.live.ticket_table import TicketTable
from chalicelib.live.updates import STATE, Update, decode
from tests.aws.endpoint import Endpoint
from tests.doubles.clock import NOW
from tests.doubles.settings import backend_of

ME = Caller("me", frozenset({"read"}), "0123")


@pytest.fixture
def backend(endpoint: Endpoint) -> Backend:
    return backend_of(endpoint.signed, connections_table=endpoint.new_table("ConnectionsTable"))


@pytest.fixture
def table(backend: Backend) -> ConnectionTable:
    return ConnectionTable(backend)


@pytest.fixture
def url(endpoint: Endpoint) -> str:
    return endpoint.new_queue(FifoQueue="true")


def test_a_ticket_is_taken_once_and_not_when_it_is_old(backend: Backend) -> None:
    table = TicketTable(backend)
    run(table.put("digest", ME, NOW // 1000 + 60))
    assert run(table.take("unknown", NOW)) is None
    assert run(table.take("digest", NOW + 60_000)) is None
    assert run(table.take("digest", NOW)) == ME
    assert run(table.take("digest", NOW)) is None


def test_messages_are_counted_per_window_until_the_connection_expires(
    table: ConnectionTable,
) -> None:
    run(table.open("c", ME, NOW))
    counts = [run(table.count_message("c", NOW)).messages for _ in range(MOST_MESSAGES + 2)]
    assert counts == list(range(1, MOST_MESSAGES + 3))
    later = NOW + RATE_SECONDS * 1000
    assert run(table.count_message("c", later)).messages == 1
    assert run(table.count_message("c", later)).messages == 2
    for unknown, at_ms in (("c", NOW + LIFE_SECONDS * 1000), ("d", NOW)):
        with pytest.raises(RequestRejected):
            run(table.count_message(unknown, at_ms))


def test_topics_come_and_go_with_their_rows(table: ConnectionTable) -> None:
    run(table.open("c", ME, NOW))
    many = {f"task:{at}" for at in range(40)} | {"prices:BTCUSDT"}
    run(table.change_topics("c", lambda held: held | many))
    run(table.change_topics("c", lambda held: held - {"task:0"}))
    run(table.enlist("c", many, NOW, ME.key_id))
    run(table.unlist("c", ["task:0"]))
    assert run(table.count_message("c", NOW)).topics == many - {"task:0"}
    assert run(table.subscribers("task:1", NOW)) == {"c": "0123"}
    assert run(table.subscribers("task:0", NOW)) == {}
    assert run(table.listened("market", NOW)) == {"prices:BTCUSDT"}
    run(table.take_off("task:0", NOW))
    run(table.take_off("task:1", NOW))  # somebody listens: it stays
    assert run(table.listened("tasks", NOW)) == many - {"task:0", "prices:BTCUSDT"}
    run(table.close("c"))
    assert run(table.subscribers("task:1", NOW)) == {}
    with pytest.raises(RequestRejected):
        run(table.change_topics("c", lambda held: held | {"tasks"}))


def test_updates_are_numbered_one_after_another(backend: Backend) -> None:
    table = SequenceTable(backend)
    assert run(table.last("tasks", NOW)) == 0
    assert run(table.pushed_at("tasks")) == 0
    assert [run(table.next("tasks", NOW + at)) for at in range(3)] == [1, 2, 3]
    assert run(table.last("tasks", NOW)) == 3
    assert run(table.pushed_at("tasks")) == NOW + 2


def test_a_streams_updates_are_received_in_order_and_once(endpoint: Endpoint, url: str) -> None:
    queue = PushQueue(backend_of(endpoint.signed, push_queue_url=url))
    updates = [
        Update(stream, STATE, "t", NOW, str(at), {"task": {"at": at}})
        for at in range(12)
        for stream in ("tasks", "task:t")
    ]
    assert run(queue.send(updates)) == []
    assert run(queue.send(updates)) == []
    received: list[Update] = []
    while messages := _receive(endpoint, url):
        received += [decode(message["Body"]) for message in messages]
    for stream in ("tasks", "task:t"):
        mine = [update for update in received if update.stream == stream]
        assert mine == [update for update in updates if update.stream == stream]


def test_a_message_that_failed_holds_back_its_stream_until_it_comes_again(
    endpoint: Endpoint, url: str
) -> None:
    queue = PushQueue(backend_of(endpoint.signed, push_queue_url=url))
    first = Update("tasks", STATE, "t", NOW, "1", {})
    run(queue.send([first, dataclasses.replace(first, number="2")]))
    (message,) = _receive(endpoint, url, most=1, delete=False)
    assert _receive(endpoint, url) == []
    run(queue.retry_later(message["ReceiptHandle"], 0))
    assert [decode(one["Body"]).number for one in _receive(endpoint, url)] == ["1", "2"]


def _receive(
    endpoint: Endpoint, url: str, most: int = 10, delete: bool = True
) -> list[dict[str, Any]]:
    answer = endpoint("sqs", "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=most)
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    for message in messages if delete else []:
        endpoint("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return messages

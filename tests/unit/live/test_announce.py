"""From changes to the push queue: what somebody listens to, in order, and nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from chalicelib.aws.stream import change_of
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable, Price
from chalicelib.live.announce import announce
from chalicelib.live.connections import ConnectionTable
from chalicelib.live.queue import BATCH_ENTRIES
from chalicelib.live.updates import decode
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from tests.doubles.coverage import Part, cover
from tests.doubles.faults import Refuse

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def listen(run, backend, clock):
    return lambda *streams: run(ConnectionTable(backend).enlist("c", streams, clock()))


@pytest.fixture
def changes(aws, settings):
    def changes(table=settings.tasks_table):
        return [change_of(record) for record in aws.stream_event(table)["Records"]]

    return changes


@pytest.fixture
def queued(aws, settings):
    return lambda: [decode(body) for body in aws.sqs.bodies(settings.push_queue_url)]


def test_nothing_is_queued_where_nobody_listens(run, backend, fleet, changes, aws, queued) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    aws.counts.clear()
    run(announce(backend, changes()))
    assert queued() == []
    assert dict(aws.counts) == {"dynamodb.Query": 1}


def test_every_state_is_queued_in_order_with_the_task_as_it_was(
    run, backend, fleet, changes, listen, queued
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(cancel_task(backend, task_id))
    run(retry_task(backend, task_id))
    run(fleet.settle())
    listen("tasks", f"task:{task_id}")
    run(announce(backend, changes()))
    for stream in ("tasks", f"task:{task_id}"):
        updates = [update for update in queued() if update.stream == stream]
        assert [update.kind for update in updates] == ["state"] * 6
        views = [update.content["task"] for update in updates]
        assert [(view["attempt"], view["status"]) for view in views] == [
            (1, "pending"),
            (1, "cancelled"),
            (1, "cancelled"),  # with its result
            (2, "pending"),
            (2, "running"),
            (2, "completed"),
        ]
        assert [view["progress"] for view in views] == [0, 0, 0, 0, 0, 100]


def test_progress_is_only_named_once_a_batch(run, backend, fleet, changes, listen, queued) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.plan())
    before = len(changes())
    run(fleet.collect(1))
    listen("tasks")
    fresh = changes()[before:]
    run(announce(backend, [change for change in fresh if change.sk.startswith("PROG#")] * 3))
    (update,) = queued()
    assert (update.kind, update.about, update.content) == ("progress", task_id, {"attempt": 1})


def test_a_batch_that_comes_again_is_queued_once(
    run, backend, fleet, changes, listen, queued
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    listen("tasks")
    run(announce(backend, changes()))
    before = queued()
    run(announce(backend, changes()))
    assert queued() == before


def test_with_owners_each_ones_list_hears_of_his_own_tasks(
    run, backend, fleet, changes, listen, queued
) -> None:
    backend = dataclasses.replace(
        backend, settings=dataclasses.replace(backend.settings, authentication="iam")
    )
    mine = run(submit_collection(backend, BODY, "arn:me", "r"))
    run(submit_collection(backend, BODY, "arn:you", "r"))
    run(fleet.plan())
    run(fleet.collect(1))
    listen("tasks@arn:me")
    run(announce(backend, changes()))
    assert {update.about for update in queued()} == {mine}


def test_prices_are_queued_for_the_symbols_listened_to(
    run, backend, changes, listen, queued, clock, settings
) -> None:
    run(CatalogueTable(backend).write_prices({"BTCUSDT": "62000.50", "ETHUSDT": "3000"}, clock()))
    listen("prices:BTCUSDT", "prices:GONE", "candles:BTCUSDT:1m")
    run(announce(backend, changes(settings.market_table)))
    (update,) = queued()
    assert (update.stream, update.about) == ("prices:BTCUSDT", "BTCUSDT")
    assert update.content == {
        "price": 62000.5,
        "time": "2026-03-04T05:06:07.890Z",
        "age_seconds": 0,
        "stale": False,
    }


def test_a_price_that_is_kept_is_announced_with_its_own_time_as_stale(
    run, backend, changes, listen, queued, clock, settings
) -> None:
    older = {"BTCUSDT": Price("5", clock() - 600_000)}
    run(CatalogueTable(backend).write_prices({"ETHUSDT": "3000"}, clock(), older))
    listen("prices:BTCUSDT")
    run(announce(backend, changes(settings.market_table)))
    (update,) = queued()
    assert update.content["time"] == iso(clock() - 600_000)
    assert (update.content["price"], update.content["stale"]) == (5, True)


def test_candles_are_queued_with_what_was_just_covered(
    run, backend, changes, listen, queued, settings
) -> None:
    run(cover(backend, "BTCUSDT", Part("1m", 0, 60_000, 0)))
    before = len(changes(settings.market_table))
    run(cover(backend, "BTCUSDT", Part("1m", 60_000, 180_000, 120_000)))
    run(cover(backend, "BTCUSDT", Part("5m", 0, 300_000, 0)))
    run(cover(backend, "ETHUSDT", Part("1m", 0, 60_000, 0)))
    listen("candles:BTCUSDT:1m", "candles:BTCUSDT:1h", "prices:BTCUSDT")
    run(announce(backend, changes(settings.market_table)[before:]))
    (update,) = queued()
    assert (update.stream, update.content) == (
        "candles:BTCUSDT:1m",
        {"covered": [60_000, 180_000]},
    )


@pytest.mark.parametrize("name", ["dynamodb.Query", "sqs.SendMessageBatch"])
def test_trouble_with_aws_is_logged_and_never_raised(
    run, backend, fleet, changes, listen, aws, capsys, name
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    listen("tasks")
    aws.hooks.append(Refuse(name))
    run(announce(backend, changes()))
    (line,) = [
        json.loads(line)
        for line in capsys.readouterr().err.splitlines()
        if "updates_not_announced" in line
    ]
    assert line["level"] == "warning"


def test_what_the_queue_refuses_of_a_batch_is_sent_again_in_order(
    run, backend, fleet, changes, listen, aws, queued, settings
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    listen("tasks", f"task:{task_id}")
    for refused in range(1, 8):
        aws.sqs.queues[settings.push_queue_url].messages.clear()
        aws.sqs.queues[settings.push_queue_url].seen.clear()
        aws.sqs.queues[settings.push_queue_url].refuse_next = refused
        run(announce(backend, changes()))
        states = [
            update.content["task"]["status"] for update in queued() if update.stream == "tasks"
        ]
        assert states == ["pending", "running", "completed"]


def test_what_the_queue_goes_on_refusing_is_given_up(
    run, backend, fleet, changes, listen, aws, queued, settings, capsys
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    listen("tasks")
    aws.sqs.queues[settings.push_queue_url].refuse_next = 10 * BATCH_ENTRIES
    run(announce(backend, changes()))
    assert queued() == []
    assert "updates_not_announced" in capsys.readouterr().err


def test_many_topics_are_sent_ten_at_a_time(
    run, backend, changes, listen, aws, clock, settings
) -> None:
    symbols = [f"S{at}USDT" for at in range(95)]
    run(CatalogueTable(backend).write_prices(dict.fromkeys(symbols, "1"), clock()))
    listen(*(f"prices:{symbol}" for symbol in symbols))
    aws.counts.clear()
    run(announce(backend, changes(settings.market_table)))
    assert dict(aws.counts) == {"dynamodb.Query": 1, "sqs.SendMessageBatch": 10}


def test_symbols_and_owners_of_any_script_and_length_are_sent(
    run, backend, changes, listen, queued, clock, settings
) -> None:
    run(CatalogueTable(backend).write_prices({"币安人生USDT": "0.1"}, clock()))
    listen("prices:币安人生USDT")
    try:
        run(announce(backend, changes(settings.market_table)))
    except CallFailed as failed:
        pytest.fail(failed.detail)
    assert [update.stream for update in queued()] == ["prices:币安人生USDT"]

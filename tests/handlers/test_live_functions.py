"""The functions around the WebSocket as Lambda calls them: without an event loop, over threads."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib import wiring
from chalicelib.aws.calls import run as drive
from chalicelib.aws.thread_pool import ThreadPool
from chalicelib.core.logs import bound, log
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.functions import triggers
from chalicelib.live.connections import ConnectionTable
from chalicelib.tasks.submit import submit_collection

CONTEXT = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000)


@pytest.fixture
def application(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Any:
    import app

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(wiring, "backend", lambda: worker)
    triggers._means.cache_clear()
    yield app
    triggers._means.cache_clear()


def socket_event(kind: str, name: str, body: object = None) -> dict[str, Any]:
    connection = {"domainName": "d", "stage": "api", "connectionId": name, "apiId": "a"}
    return {"requestContext": {**connection, "routeKey": kind}, "body": json.dumps(body)}


def test_a_client_above_its_owners_connections_is_refused_with_429(
    application, worker, monkeypatch
) -> None:
    limited = replace(worker, settings=replace(worker.settings, owner_connections=1))
    monkeypatch.setattr(wiring, "backend", lambda: limited)
    codes = [
        application.ws_connect(socket_event("$connect", name), CONTEXT)["statusCode"]
        for name in ("one", "two")
    ]
    assert codes == [200, 429]


def test_a_change_reaches_every_client_through_stream_queue_and_threads(
    application, worker, aws, settings, fleet, run
) -> None:
    names = [f"c{at}" for at in range(40)]
    run(CatalogueTable(worker).write_catalogue({"BTCUSDT": "TRADING"}, 6000, worker.now_ms()))
    task_id = run(
        submit_collection(worker, {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}, "me", "r")
    )
    topics = [f"task:{task_id}", "candles:BTCUSDT:1d"]
    for name in names:
        assert application.ws_connect(socket_event("$connect", name), CONTEXT)["statusCode"] == 200
        message = {"action": "subscribe", "topics": topics}
        application.ws_message(socket_event("$default", name, message), CONTEXT)
    run(fleet.settle())
    application.on_task_change(aws.stream_event(settings.tasks_table), CONTEXT)
    application.on_market_change(aws.stream_event(settings.market_table), CONTEXT)
    while records := aws.sqs.receive(settings.push_queue_url):
        answer = application.push_updates({"Records": records}, CONTEXT)
        assert answer == {"batchItemFailures": []}
        for record in records:
            aws.sqs.delete(settings.push_queue_url, record["receiptHandle"])
        worker.now_ms.advance(1000)  # the pace is not this test's concern
    heard = [(to, json.loads(text)) for to, text in aws.sockets.sent]
    for name in names:
        updates = [m for to, m in heard if to == name and m["type"] == "update"]
        states = [m["task"]["status"] for m in updates if "task" in m]
        assert states == ["pending", "running", "completed"]
        assert [m["candle"]["open_time"] for m in updates if "candle" in m] == [
            "2026-03-03T00:00:00.000Z"
        ]
    application.ws_disconnect(socket_event("$disconnect", "c0"), CONTEXT)
    assert "c0" not in run(ConnectionTable(worker).subscribers(topics[0], worker.now_ms()))


# --- threads ------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> ThreadPool:
    return ThreadPool(8)


def test_work_is_done_at_once_and_its_results_come_in_order(threads: ThreadPool) -> None:
    together = threading.Barrier(8)  # lets nobody pass until all eight are there

    async def one(number: int) -> int:
        together.wait(timeout=30)
        return number

    assert drive(threads.together([one(number) for number in range(8)])) == list(range(8))
    assert drive(threads.together([])) == []


def test_the_first_error_is_raised_once_all_have_ended(threads: ThreadPool) -> None:
    ended = []

    async def one(number: int) -> None:
        try:
            if number % 2:
                raise ValueError(str(number))
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="1"):
        drive(threads.together([one(number) for number in range(8)]))
    assert sorted(ended) == list(range(8))


def test_what_is_bound_to_log_lines_is_bound_in_the_threads_too(
    threads: ThreadPool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def one(number: int) -> None:
        log("said", number=number)

    with bound(request_id="mine"):
        drive(threads.together([one(number) for number in range(4)]))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["request_id"] for line in lines} == {"mine"}
    assert sorted(line["number"] for line in lines) == [0, 1, 2, 3]

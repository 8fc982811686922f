"""Logs: one JSON line per event, with what it belongs to, wherever it comes from."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from types import SimpleNamespace

import pytest

from chalicelib.collecting.sweep import sweep
from chalicelib.core import metrics
from chalicelib.core.logs import bound, log
from chalicelib.core.together import together
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.budget import Budget
from chalicelib.functions import triggers
from chalicelib.functions.batches import bury_batch, collect_batch, plan_batch
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.work.messages import PlanMessage
from infra.functions import FUNCTIONS


@pytest.fixture(autouse=True)
def clean(monkeypatch, capsys):
    monkeypatch.setenv("STACK", "s")
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    metrics.flush()
    capsys.readouterr()
    yield
    metrics.flush()


@pytest.fixture
def lines(capsys):
    """The log lines written since the last time, without metrics."""

    def lines():
        found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in found if "_aws" not in line]

    return lines


# --- one line ---------------------------------------------------------------------------------


def test_a_line_says_when_how_bad_what_and_where(monkeypatch, lines) -> None:
    monkeypatch.setenv("FUNCTION", "collect")
    log("unit_failed", level="warning", symbol="BTCUSDT")
    [line] = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "event": "unit_failed",
        "function": "collect",
        "symbol": "BTCUSDT",
    }


@pytest.mark.parametrize("text", ["two\nlines", "\ud800 alone", "币安人生USDT", '"quoted"', "\x00"])
def test_any_text_stays_in_its_line_and_comes_out_as_it_went_in(lines, text: str) -> None:
    log("seen", text=text)
    [line] = lines()
    assert line["text"] == text


def test_what_is_no_json_is_written_as_text(lines) -> None:
    log("seen", units={1}, error=ValueError("x"))
    [line] = lines()
    assert (line["units"], line["error"]) == ("{1}", "x")


def test_lines_below_the_level_are_not_written_but_errors_are_counted(monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOG_LEVEL", "OFF")
    log("quiet")
    log("bad", level="error")
    assert capsys.readouterr().err == ""
    metrics.flush()
    assert json.loads(capsys.readouterr().err)["ErrorsLogged"] == 1


def test_what_is_bound_is_on_every_line_inside_and_on_none_outside(lines) -> None:
    with bound(task_id="t"):
        with bound(prog=1):
            log("inner")
        log("outer")
    log("after")
    inner, outer, after = lines()
    assert (inner["task_id"], inner["prog"]) == ("t", 1)
    assert (outer["task_id"], "prog" in outer, "task_id" in after) == ("t", False, False)


# --- work at once -----------------------------------------------------------------------------


def test_things_done_at_once_do_not_mix_what_they_have_bound(lines) -> None:
    async def one(name: str) -> None:
        with bound(name=name):
            for _ in range(5):
                await asyncio.sleep(0)
                log("seen", mine=name)

    asyncio.run(one_at_once(one))
    seen = lines()
    assert len(seen) == 50
    assert all(line["name"] == line["mine"] for line in seen)


async def one_at_once(one) -> None:
    await together(*(one(f"n{number}") for number in range(10)))


def test_two_messages_of_one_batch_do_not_mix(run, worker, aws, settings, exchange, lines) -> None:
    task_ids = [
        run(submit_collection(worker, {"symbols": [name], "timeframes": ["1h", "1d"]}, "me", "r"))
        for name in ("BTCUSDT", "ETHUSDT")
    ]
    deliver(run, plan_batch, worker, aws.sqs, settings.plan_queue_url)
    lines()
    event = received(aws.sqs, settings.work_queue_url)
    assert len(event["Records"]) == 2
    with bound(request_id="req-1"):
        run(collect_batch(worker, Budget(worker), event, lambda: 60_000))
    seen = lines()
    symbol_of = dict(zip(task_ids, ("BTCUSDT", "ETHUSDT"), strict=True))
    counted = [line for line in seen if line["event"] == "units_counted"]
    assert {line["task_id"] for line in counted} == set(task_ids)
    for line in seen:
        assert line["symbol"] == symbol_of[line["task_id"]]
        assert (line["request_id"], line["attempt"], line["delivery"]) == ("req-1", 1, "1")
    assert len({line["message_id"] for line in seen}) == 2


@pytest.fixture
def container(monkeypatch):
    """A container's loop, which ends with the test and gives the garbage collector back."""
    thresholds = gc.get_threshold()
    monkeypatch.setattr(gc, "freeze", lambda: None)
    yield
    triggers._loop().close()
    triggers._loop.cache_clear()
    gc.set_threshold(*thresholds)


def test_the_containers_loop_sees_what_the_edge_has_bound(container, lines) -> None:
    async def work() -> None:
        log("inside")

    for number in range(3):  # the loop is kept from one invocation to the next
        with bound(request_id=f"r{number}"):
            triggers._worked(work())
    assert [line["request_id"] for line in lines()] == ["r0", "r1", "r2"]


# --- edges ------------------------------------------------------------------------------------


def test_every_event_function_enters_through_the_edge() -> None:
    names = {name.replace("websocket_", "ws_") for name in FUNCTIONS} - {"api_handler"}
    entries = {name: getattr(triggers, name) for name in names}
    assert [name for name, entry in entries.items() if not hasattr(entry, "__wrapped__")] == []


def test_a_crash_is_logged_with_its_request_and_metrics_still_go_out(capsys) -> None:
    @triggers.edge
    def broken(event: object, context: object) -> None:
        metrics.count("BreakerOpened")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        broken({}, SimpleNamespace(aws_request_id="req-9"))
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = [line for line in found if "_aws" not in line]
    assert (line["event"], line["level"], line["request_id"]) == (
        "invocation_failed",
        "error",
        "req-9",
    )
    assert "RuntimeError: broken" in line["trace"]
    names = {name for line in found if "_aws" in line for name in line}
    assert {"BreakerOpened", "ErrorsLogged"} <= names


def test_a_socket_event_carries_its_own_context(lines) -> None:
    @triggers.edge
    def socket(event: object) -> None:
        log("inside")

    socket(SimpleNamespace(context=SimpleNamespace(aws_request_id="req-3")))
    assert lines()[0]["request_id"] == "req-3"


# --- one task, all functions ------------------------------------------------------------------


def test_one_query_by_task_id_follows_a_task_through_all_functions(
    run, worker, aws, settings, exchange, clock, lines
) -> None:
    body = {"symbols": ["BTCUSDT", "NOPEUSDT"], "timeframes": ["1h"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    deliver(run, plan_batch, worker, aws.sqs, settings.plan_queue_url)
    event = received(aws.sqs, settings.work_queue_url)
    run(collect_batch(worker, Budget(worker), event, lambda: 60_000))
    run(record_task_changes(worker, aws.stream_event(settings.tasks_table)["Records"]))
    run(retry_task(worker, task_id))
    aws.sqs.queues[settings.plan_queue_url].messages.clear()  # lost
    clock.advance(90_000)
    run(sweep(worker))
    run(bury_batch(worker, one_record(PlanMessage(task_id, 2).encode())))
    other = run(submit_collection(worker, {"symbols": ["ETHUSDT"]}, "me", "r"))
    run(cancel_task(worker, other))
    found = lines()
    assert [line["event"] for line in found if line.get("task_id") == other] == [
        "task_submitted",
        "task_cancelled",
    ]
    mine = [line for line in found if line.get("task_id") == task_id]
    assert {line["event"] for line in mine} == {
        *("task_submitted", "task_planned", "messages_sent", "message_started", "unit_failed"),
        *("units_counted", "message_collected", "task_ended", "happened", "task_retried"),
        *("swept", "planning_buried"),
    }
    assert {line["attempt"] for line in mine} == {1, 2}
    [failed] = [line for line in mine if line["event"] == "unit_failed"]
    assert (failed["symbol"], failed["timeframe"]) == ("NOPEUSDT", "1h")
    assert failed["reason"] == "INVALID_SYMBOL"


def received(sqs, url: str) -> dict[str, object]:
    return {"Records": [{"attributes": {}, **record} for record in sqs.receive(url, 10)]}


def one_record(body: str) -> dict[str, object]:
    attributes = {"ApproximateReceiveCount": "1"}
    return {"Records": [{"messageId": "m", "body": body, "attributes": attributes}]}


def deliver(run, batch, worker, sqs, url: str) -> None:
    event = received(sqs, url)
    assert run(batch(worker, event)) == {"batchItemFailures": []}
    for record in event["Records"]:
        sqs.delete(url, record["receiptHandle"])


def test_no_line_holds_what_a_caller_sent_or_a_credential(
    run, worker, aws, settings, exchange, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sEcReT/KeY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tOkEn")
    run(submit_collection(worker, {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}, "me@home", "r"))
    deliver(run, plan_batch, worker, aws.sqs, settings.plan_queue_url)
    event = received(aws.sqs, settings.work_queue_url)
    run(collect_batch(worker, Budget(worker), event, lambda: 60_000))
    metrics.flush()
    text = capsys.readouterr().err
    handles = [record["receiptHandle"] for record in event["Records"]]
    for secret in ("sEcReT/KeY", "tOkEn", "me@home", *handles):
        assert secret not in text

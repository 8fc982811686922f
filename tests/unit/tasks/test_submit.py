"""Taking a request on: the same few calls, all or nothing, and no lost task."""

from __future__ import annotations

import pytest

from chalicelib.collecting.sweep import sweep
from chalicelib.core.errors import CallFailed, InvalidRequest, PlanTooLarge
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.view import view_task
from tests.doubles.faults import LoseAnswer, Meanwhile, Refuse, is_update_of

SYMBOLS = [f"COIN{number}USDT" for number in range(3000)]


@pytest.mark.parametrize(
    "symbols", [SYMBOLS[:1], SYMBOLS, ["COIN*", "quote=USDT", "!COIN1*", "top=100"]], ids=len
)
def test_a_request_takes_four_aws_calls_however_many_symbols_it_names(
    run, backend, aws, clock, symbols
) -> None:
    run(CatalogueTable(backend).write_catalogue(dict.fromkeys(SYMBOLS, "TRADING"), 6000, clock()))
    aws.counts.clear()
    body = {"symbols": symbols, "timeframes": ["1h"]}
    run(submit_collection(backend, body, "me", "request"))
    assert aws.counts == {
        "dynamodb.GetItem": 1,
        "dynamodb.PutItem": 1,
        "dynamodb.TransactWriteItems": 1,
        "sqs.SendMessage": 1,
    }


def test_an_unknown_symbol_has_the_list_read_again_once_a_minute_and_is_then_accepted(
    run, backend, fleet, exchange, clock, worker, aws
) -> None:
    run(refresh_catalogue(worker))
    exchange.symbols["NEWUSDT"] = "TRADING"
    body = {"symbols": ["NEWUSDT"], "timeframes": ["1d"]}
    asked_ms = clock()
    for _ in range(3):  # of several callers
        with pytest.raises(InvalidRequest, match="try again in a minute"):
            run(submit_collection(backend, body, "me", "request"))
    assert len(refreshes(aws)) == 1
    run(fleet.settle())
    task_id = run(submit_collection(backend, body, "me", "request"))
    run(fleet.settle())
    assert run(view_task(backend, task_id))["status"] == "completed"
    for after_ms, made in ((59_999, 1), (60_000, 2)):
        clock.advance_to(asked_ms + after_ms)
        with pytest.raises(InvalidRequest):
            run(submit_collection(backend, {"symbols": ["NOPE"]}, "me", "request"))
        assert len(refreshes(aws)) == made


def test_what_is_certainly_no_new_symbol_has_no_list_read(run, backend, worker, aws) -> None:
    run(refresh_catalogue(worker))
    for symbols in (["btcusdt"], ["a b"], [7], [], "NOPE"):
        with pytest.raises(InvalidRequest):
            run(submit_collection(backend, {"symbols": symbols}, "me", "request"))
    assert refreshes(aws) == []


def test_of_callers_at_once_one_has_the_list_read_again(run, backend, worker, aws) -> None:
    run(refresh_catalogue(worker))
    body = {"symbols": ["NOPE"]}

    async def another() -> None:
        with pytest.raises(InvalidRequest):
            await submit_collection(backend, body, "you", "other")

    aws.hooks.append(Meanwhile(is_update_of("REFRESH"), another))
    with pytest.raises(InvalidRequest):
        run(submit_collection(backend, body, "me", "request"))
    assert len(refreshes(aws)) == 1


def test_a_delisted_symbol_may_be_asked_for_and_is_none_of_all_symbols(
    run, backend, worker, fleet, exchange
) -> None:
    run(refresh_catalogue(worker))
    exchange.symbols.pop("OLDUSDT")
    run(refresh_catalogue(worker))
    exchange.symbols["OLDUSDT"] = "BREAK"  # the exchange still answers its candles
    named = run(
        submit_collection(backend, {"symbols": ["OLDUSDT"], "timeframes": ["1d"]}, "me", "r")
    )
    everything = run(submit_collection(backend, {"timeframes": ["1d"]}, "me", "request"))
    run(fleet.settle())
    assert run(view_task(backend, named))["status"] == "completed"
    assert run(view_task(backend, everything))["units"]["total"] == 2


def refreshes(aws) -> list[str]:
    """Task ids of the symbol refreshes that were submitted."""
    tasks = [item for item in aws.items("tasks") if item["sk"]["S"] == "META"]
    return [
        task["task_id"]["S"] for task in tasks if task["task_type"]["S"] == states.SYMBOL_REFRESH
    ]


def test_a_request_for_all_symbols_takes_four_aws_calls_too(run, backend, aws) -> None:
    run(submit_collection(backend, {}, "me", "request"))
    assert sum(aws.counts.values()) == 4


def test_a_submitted_task_is_pending_with_nothing_done(run, backend) -> None:
    task_id = run(submit_collection(backend, {"timeframes": ["1h"]}, "me", "request"))
    view = run(view_task(backend, task_id))
    assert (view["status"], view["progress"], view["attempt"]) == ("pending", 0, 1)
    assert (view["started_at"], view["result"], view["error"]) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"symbols": []}, InvalidRequest),
        ({"unknown": 1}, InvalidRequest),
        ([], InvalidRequest),
        ({"symbols": SYMBOLS[:99], "timeframes": ["1s"], "start": "2017-01-01"}, PlanTooLarge),
    ],
)
def test_a_rejected_request_leaves_nothing_behind(run, backend, aws, settings, body, error) -> None:
    with pytest.raises(error):
        run(submit_collection(backend, body, "me", "request"))
    assert aws.items(settings.tasks_table) == []
    assert aws.sqs.bodies(settings.plan_queue_url) == []


def test_a_task_whose_message_was_not_sent_is_pending_until_sweep_sends_it(
    run, backend, aws, clock, fleet
) -> None:
    aws.hooks.append(Refuse("sqs.SendMessage"))
    task_id = run(submit_collection(backend, {"timeframes": ["1d"]}, "me", "request"))
    assert run(view_task(backend, task_id))["status"] == "pending"
    assert run(fleet.plan()) == 0
    clock.advance(90_000)
    run(sweep(backend))
    run(fleet.settle())
    assert run(view_task(backend, task_id))["status"] == "completed"


def test_a_task_that_could_not_be_stored_is_not_queued(run, backend, aws, settings) -> None:
    aws.hooks.append(Refuse("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(submit_collection(backend, {"timeframes": ["1d"]}, "me", "request"))
    assert aws.sqs.bodies(settings.plan_queue_url) == []


def test_a_task_stored_under_a_lost_answer_is_found_by_sweep(
    run, backend, aws, clock, fleet, settings
) -> None:
    aws.hooks.append(LoseAnswer("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(submit_collection(backend, {"timeframes": ["1d"]}, "me", "request"))
    (meta,) = [item for item in aws.items(settings.tasks_table) if item["sk"]["S"] == "META"]
    run(fleet.settle_and_sweep(2))
    assert run(view_task(backend, meta["task_id"]["S"]))["status"] == "completed"


def test_a_symbol_refresh_is_a_task_like_any_other(run, backend, fleet, exchange) -> None:
    task_id = run(submit_symbol_refresh(backend, "me", "request"))
    run(fleet.settle())
    view = run(view_task(backend, task_id))
    assert (view["task_type"], view["status"], view["progress"]) == (
        "symbol_refresh",
        "completed",
        100,
    )
    assert view["result"]["symbols"] == view["result"]["new"] == len(exchange.symbols)
    assert run(CatalogueTable(backend).read_catalogue()).symbols == exchange.symbols


def test_a_symbol_refresh_that_the_exchange_refuses_fails_with_the_reason(
    run, backend, fleet, exchange
) -> None:
    exchange.down = True
    task_id = run(submit_symbol_refresh(backend, "me", "request"))
    run(fleet.settle())
    view = run(view_task(backend, task_id))
    assert view["status"] == "failed"
    assert view["error"].startswith("EXCHANGE_NO_ANSWER")

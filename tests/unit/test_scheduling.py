"""The scheduled collection: one firing, one task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib import wiring
from chalicelib.errors import CallFailed
from chalicelib.scheduling import run_schedule
from chalicelib.viewing import view_task
from tests.doubles.faults import LoseAnswer
from tests.doubles.fleet import Fleet

FIRED = "2026-03-04T05:00:00Z"


def metas(aws, settings):
    return [item for item in aws.items(settings.tasks_table) if item["sk"]["S"] == "META"]


def test_a_firing_that_arrives_twice_makes_one_task(run, desk, aws, settings, fleet) -> None:
    first = run(run_schedule(desk, FIRED, "request-1"))
    assert run(run_schedule(desk, FIRED, "request-2")) == first
    run(fleet.settle())
    assert len(metas(aws, settings)) == 1
    assert run(view_task(desk, first))["status"] == "completed"


def test_a_firing_that_arrives_again_after_the_task_ended_does_not_run_it_again(
    run, desk, fleet, exchange
) -> None:
    task_id = run(run_schedule(desk, FIRED, "request-1"))
    run(fleet.settle())
    view, asked = run(view_task(desk, task_id)), len(exchange.asked)
    run(run_schedule(desk, FIRED, "request-2"))
    run(fleet.settle())
    assert run(view_task(desk, task_id)) == view
    assert len(exchange.asked) == asked


def test_two_firings_make_two_tasks(run, desk, aws, settings) -> None:
    run(run_schedule(desk, FIRED, "r"))
    run(run_schedule(desk, "2026-03-04T06:00:00Z", "r"))
    assert len(metas(aws, settings)) == 2


def test_a_firing_whose_first_try_got_no_answer_makes_one_task(
    run, desk, aws, settings, fleet
) -> None:
    aws.hooks.append(LoseAnswer("dynamodb.PutItem"))
    with pytest.raises(CallFailed):
        run(run_schedule(desk, FIRED, "r"))
    task_id = run(run_schedule(desk, FIRED, "r"))
    run(fleet.settle())
    assert len(metas(aws, settings)) == 1
    assert run(view_task(desk, task_id))["status"] == "completed"


def test_the_schedule_collects_what_is_configured_for_it(
    run, aws, settings, clock, exchange
) -> None:
    configured = replace(settings, schedule_symbols=("ETHUSDT",), schedule_timeframes=("1d", "4h"))
    bench = wiring.bench_over(aws, configured, clock, exchange)
    run(run_schedule(bench, FIRED, "r"))
    run(Fleet(aws, bench).settle())
    assert {asked[:2] for asked in exchange.asked} == {("ETHUSDT", "1d"), ("ETHUSDT", "4h")}

"""A person's pause stops the whole fleet, beside the exchange's own breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.aws.stream import Change
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import FOREVER_MS
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import LOOK_AGAIN_MS, Hold, LedgerState
from chalicelib.exchange.pause import Pauses, ordered_change
from tests.doubles.faults import Meanwhile, named
from tests.unit.exchange.test_budget import MINUTE, small_fleet

STEP = st.one_of(
    st.tuples(st.just("pause"), st.sampled_from([1_000, 90_000, 10 * MINUTE, None])),
    st.tuples(st.just("resume"), st.just(0)),
    st.tuples(st.just("breaker"), st.sampled_from([500, 30_000, 5 * MINUTE])),
    st.tuples(st.just("wait"), st.sampled_from([1, 1_000, 45_000, 3 * MINUTE])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_nobody_asks_while_a_pause_or_the_breaker_stands_and_neither_ends_the_other(
    steps: list[tuple[str, Any]],
) -> None:
    clock, worker, budgets = small_fleet(6000, 2)
    held_until = breaker_until = 0

    async def play() -> None:
        nonlocal held_until, breaker_until
        for kind, value in steps:
            now_ms = clock()
            if kind == "pause":
                held_until = FOREVER_MS if value is None else now_ms + value
                await Pauses(worker).begin(held_until, "anna", "why", "r", now_ms)
            elif kind == "resume":
                ended = await Pauses(worker).end("ben", "r", now_ms)
                assert (ended is not None) == (held_until > now_ms)
                held_until = min(held_until, now_ms)
            elif kind == "breaker":
                await Ledger(worker).pause(now_ms + value, "HTTP 429")
                breaker_until = max(breaker_until, now_ms + value)
            else:
                clock.advance(value)
            now_ms = clock()
            state = await Ledger(worker).read()
            assert state.paused_until == breaker_until
            assert (state.hold_at(now_ms) is not None) == (held_until > now_ms)
            for budget in budgets:  # one of them may have weight left from before
                until = await budget.take(1)
                assert (until > 0) == (max(held_until, breaker_until) > now_ms)
                assert until <= max(breaker_until, now_ms + LOOK_AGAIN_MS)

    asyncio.run(play())


def test_a_pause_that_stands_keeps_who_began_it_and_gets_the_new_end_and_reason() -> None:
    clock, worker, _ = small_fleet(6000, 1)

    async def play() -> Hold | None:
        await Pauses(worker).begin(FOREVER_MS, "anna", "first", "r1", clock())
        began = clock()
        clock.advance(5_000)
        await Pauses(worker).begin(clock() + 9_000, "ben", "second", "r2", clock())
        found = (await Ledger(worker).read()).hold_at(clock())
        assert found == Hold(began, clock() + 9_000, "anna", "second")
        clock.advance(9_000)
        return (await Ledger(worker).read()).hold_at(clock())

    assert asyncio.run(play()) is None


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=40),
    st.integers(0, 4_000),
    st.integers(0, 4_000),
)
@settings(max_examples=60, deadline=None)
@example([(10, 10)] * 16, 0, 4_000)  # as many as are remembered one by one
def test_paused_time_is_never_forgotten_however_often_it_was_paused(
    pauses: list[tuple[int, int]], since: int, length: int
) -> None:
    clock, worker, _ = small_fleet(6000, 1)
    began = clock()
    held: set[int] = set()

    async def play() -> LedgerState:
        for before, lasts in pauses:
            clock.advance(before)
            await Pauses(worker).begin(FOREVER_MS, "anna", "", "r", clock())
            held.update(range(clock() - began, clock() - began + lasts))
            clock.advance(lasts)
            await Pauses(worker).end("anna", "r", clock())
        return await Ledger(worker).read()

    state = asyncio.run(play())
    exact = len(held & set(range(since, since + length)))
    found = state.held_ms(began + since, began + since + length)
    assert exact <= found <= length
    assert found == exact or len(pauses) > 16
    assert len(state.holds) <= 16


def test_an_order_that_aws_refuses_fails_and_changes_nothing() -> None:
    clock, worker, _ = small_fleet(6000, 1)

    async def refused(service: str, operation: str, **asked: Any) -> dict[str, Any]:
        if operation == "TransactWriteItems":
            raise CallFailed(service, operation, "InternalServerError", "simulated")
        return await worker.call(service, operation, **asked)

    other = type(worker)(refused, worker.settings, clock, worker.exchange)
    with pytest.raises(CallFailed, match="InternalServerError"):
        asyncio.run(Pauses(other).begin(FOREVER_MS, "anna", "", "r", clock()))
    assert asyncio.run(Ledger(worker).read()).holds == ()


def test_of_two_orders_at_once_the_later_one_sees_the_other(run, backend, aws, clock) -> None:
    def order(by: str) -> Coroutine[Any, Any, LedgerState]:
        return Pauses(backend).begin(FOREVER_MS, by, by, "r", clock())

    aws.hooks.append(Meanwhile(named("dynamodb.TransactWriteItems"), lambda: order("ben")))
    run(order("anna"))
    state = run(Ledger(backend).read())
    assert len(state.holds) == 1
    assert (state.held_by, state.hold_reason, state.hold_rev) == ("ben", "anna", 2)


def test_an_order_is_told_from_other_changes_and_from_its_own_deletion() -> None:
    order = {"pk": "PAUSE#binance", "sk": "PAUSE", "until": 5}
    other = {"pk": "LIMIT#binance", "sk": "LIMIT"}

    def ordered(old: dict[str, Any], new: dict[str, Any]) -> object:
        return ordered_change(Change("1", 0, old, new, by_ttl=False))

    assert ordered({}, order) == ("binance", {}, order)
    assert ordered(order, {**order, "until": 0}) == ("binance", order, {**order, "until": 0})
    assert ordered(order, {}) is None
    assert ordered({}, other) is None

"""The gate: every request is checked after it came, and before it leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.collecting.gate import RESERVE_MS, Gate, Withheld
from chalicelib.core.errors import CallFailed
from tests.doubles.clock import Clock, SimulatedLoop


class Checks:
    """What a gate asks; `step` counts what happens, so that before and after can be told apart."""

    def __init__(self) -> None:
        self.step = 0
        self.looked_at: list[int] = []
        self.waited: list[int] = []
        self.paid: list[int] = []
        self.high: list[bool] = []
        self.wanted, self.until_ms, self.remaining = True, 0, 60_000
        self.trouble: list[Exception] = []
        self.seconds = 0.0

    def gate(self, high: bool = False) -> Gate:
        return Gate(self, self.authorised, lambda: self.remaining, high)  # type: ignore[arg-type]

    async def wait(self) -> None:
        self.step += 1
        await asyncio.sleep(0)
        self.waited.append(self.step)

    async def take(self, weight: int, high: bool) -> int:
        await asyncio.sleep(self.seconds)
        self.high.append(high)
        if self.trouble:
            raise self.trouble.pop()
        self.paid.append(weight)
        return self.until_ms

    async def authorised(self) -> bool:
        self.step += 1
        self.looked_at.append(self.step)
        await asyncio.sleep(self.seconds)
        return self.wanted


@pytest.fixture
def checks() -> Checks:
    return Checks()


def test_requests_that_wait_together_are_checked_and_paid_for_together(checks: Checks) -> None:
    async def work() -> None:
        gate = checks.gate()
        await asyncio.gather(*(gate.permit(2) for _ in range(8)))

    asyncio.run(work())
    assert len(checks.looked_at) <= 2
    assert sum(checks.paid) == 16


def test_those_that_come_within_milliseconds_are_checked_once(checks: Checks) -> None:
    async def work() -> None:
        gate = checks.gate()

        async def one(ms: int) -> None:
            await asyncio.sleep(ms / 1000)
            await gate.permit(2)

        await asyncio.gather(*map(one, (0, 1, 3, 4, 100)))

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(Clock())) as runner:
        runner.run(work())
    assert checks.paid == [8, 2]


def test_what_is_withheld_meanwhile_is_not_checked(checks: Checks) -> None:
    async def work() -> None:
        gate = checks.gate()
        waiting = asyncio.create_task(gate.permit(2))
        await asyncio.sleep(0.001)
        gate.close(Withheld("429", until_ms=99))
        with pytest.raises(Withheld):
            await waiting

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(Clock())) as runner:
        runner.run(work())
    assert checks.paid == []


def test_nobody_waits_for_the_exchanges_minute_after_the_look_at_the_task(checks: Checks) -> None:
    asyncio.run(checks.gate().permit(2))
    assert checks.waited[-1] < checks.looked_at[0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(0, 9))
def test_each_request_is_looked_at_after_it_came_and_paid_for(pauses: list[int], ms: int) -> None:
    checks = Checks()
    checks.seconds = ms / 1000

    async def one(gate: Gate) -> None:
        checks.step += 1
        came = checks.step
        await gate.permit(2)
        assert checks.looked_at[-1] > came

    async def work() -> None:
        gate, tasks = checks.gate(), []
        for pause in pauses:
            tasks.append(asyncio.create_task(one(gate)))
            await asyncio.sleep(pause / 1000)
        await asyncio.gather(*tasks)

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(Clock())) as runner:
        runner.run(work())
    assert sum(checks.paid) == 2 * len(pauses)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"wanted": False}, {"stopped": True}),
        ({"until_ms": 77}, {"until_ms": 77}),
        ({"remaining": RESERVE_MS - 1}, {"out_of_time": True}),
    ],
)
def test_what_is_withheld_once_stays_withheld(
    checks: Checks, change: dict[str, Any], expected: dict[str, Any]
) -> None:
    vars(checks).update(change)
    gate = checks.gate()

    async def work() -> list[Any]:
        first = await asyncio.gather(*(gate.permit(2) for _ in range(3)), return_exceptions=True)
        vars(checks).update(wanted=True, until_ms=0, remaining=60_000)
        return [*first, *await asyncio.gather(gate.permit(2), return_exceptions=True)]

    outcomes = asyncio.run(work())
    assert all(isinstance(outcome, Withheld) for outcome in outcomes)
    assert vars(gate.withheld).items() >= expected.items()
    assert len(checks.paid) <= 1


def test_nothing_passes_once_the_exchange_has_throttled(checks: Checks) -> None:
    async def work() -> None:
        gate = checks.gate()
        await gate.permit(2)
        gate.close(Withheld("429", until_ms=99))
        with pytest.raises(Withheld) as withheld:
            await gate.permit(2)
        assert withheld.value.until_ms == 99

    asyncio.run(work())


def test_a_check_that_fails_lets_nobody_pass(checks: Checks) -> None:
    checks.trouble.append(CallFailed("dynamodb", "UpdateItem", "ThrottlingException", ""))

    async def work() -> list[Any]:
        gate = checks.gate()
        return await asyncio.gather(*(gate.permit(2) for _ in range(3)), return_exceptions=True)

    outcomes = asyncio.run(work())
    assert isinstance(outcomes[0], CallFailed)
    assert outcomes[1:] == [None, None]
    assert len(checks.looked_at) >= 1


@pytest.mark.parametrize(("remaining", "passes"), [(RESERVE_MS, True), (RESERVE_MS - 1, False)])
def test_a_request_passes_while_the_reserve_is_left(
    checks: Checks, remaining: int, passes: bool
) -> None:
    checks.remaining = remaining
    gate = checks.gate()
    if passes:
        asyncio.run(gate.permit(2))
    else:
        with pytest.raises(Withheld):
            asyncio.run(gate.permit(2))
    assert bool(checks.paid) is passes


@pytest.mark.parametrize("high", [True, False])
def test_what_is_kept_for_high_is_asked_for_by_high_alone(checks: Checks, high: bool) -> None:
    asyncio.run(checks.gate(high).permit(2))
    assert checks.high == [high]

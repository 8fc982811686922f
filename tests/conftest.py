"""Fixtures over the doubles: a simulated AWS and exchange on a clock that only tests move."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from chalicelib import wiring
from chalicelib.settings import Settings
from chalicelib.wiring import Bench, Desk
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> Settings:
    return Settings(
        exchange_url="http://exchange.test",
        tasks_table="tasks",
        market_table="market",
        connections_table="connections",
        audit_table="audit",
        candles_bucket="candles",
        plan_queue_url="https://queues.test/plan",
        urgent_queue_url="https://queues.test/urgent",
        work_queue_url="https://queues.test/work",
        dead_letter_queue_url="https://queues.test/dead-letters",
        stream_failure_queue_url="https://queues.test/stream-failures",
        ws_endpoint="https://sockets.test",
        schedule_group="group",
        push_queue_url="https://queues.test/push",
        event_bus="bus",
        webhook_queue_url="https://queues.test/webhooks",
        webhook_dead_letter_queue_url="https://queues.test/webhook-dead-letters",
    )


@pytest.fixture
def aws(clock: Clock, settings: Settings) -> Aws:
    return Aws.for_settings(clock, settings)


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    return Exchange(clock)


@pytest.fixture
def desk(aws: Aws, settings: Settings, clock: Clock) -> Desk:
    return wiring.desk_over(aws, settings, clock)


@pytest.fixture
def bench(aws: Aws, settings: Settings, clock: Clock, exchange: Exchange) -> Bench:
    return wiring.bench_over(aws, settings, clock, exchange)  # type: ignore[arg-type]


@pytest.fixture
def fleet(aws: Aws, bench: Bench) -> Fleet:
    return Fleet(aws, bench)


@pytest.fixture
def run(clock: Clock) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine on simulated time: `asyncio.sleep` moves the clock and takes no time."""
    loop = SimulatedLoop(clock)
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

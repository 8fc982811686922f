"""Fixtures over the doubles: a simulated AWS and exchange on a clock that only tests move."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import hypothesis
import pytest

from chalicelib.core.backend import Backend
from chalicelib.core.settings import Settings
from chalicelib.exchange.worker import Worker
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet
from tests.doubles.settings import doubled_settings

#: Machines that do other work as well are slow: no test fails for its time.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
    """SIGTERM ends the tests as Ctrl-C does: with what they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes one has all end-to-end tests, which share a stack and mostly wait. Other
    files are done whole, and of the table of errors, which takes long, each test by itself."""
    from xdist.scheduler.loadfile import LoadFileScheduling

    class ByWhatIsShared(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/e2e/"):
                return "tests/e2e"
            if nodeid.startswith("tests/unit/error_table/"):
                return nodeid
            return str(super()._split_scope(nodeid))

    return ByWhatIsShared(config, log)


def pytest_collection_finish() -> None:
    """What the tests themselves are, half a million objects, is no garbage until they end: to look
    at it again each time takes half a second."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.freeze = _not_here


def pytest_unconfigure() -> None:
    """Frozen objects live until the process ends, and DuckDB then reports each as a leak."""
    gc.unfreeze()


def _not_here() -> None:
    pytest.fail("a container freezes what it has loaded, and a test must not: it would never end")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> Settings:
    return doubled_settings()


@pytest.fixture
def aws(clock: Clock, settings: Settings) -> Aws:
    return Aws.for_settings(clock, settings)


@pytest.fixture
def exchange(clock: Clock) -> Exchange:
    return Exchange(clock)


@pytest.fixture
def backend(aws: Aws, settings: Settings, clock: Clock) -> Backend:
    return Backend(aws, settings, clock)


@pytest.fixture
def worker(aws: Aws, settings: Settings, clock: Clock, exchange: Exchange) -> Worker:
    return Worker(aws, settings, clock, exchange)  # type: ignore[arg-type]


@pytest.fixture
def fleet(aws: Aws, worker: Worker) -> Fleet:
    return Fleet(aws, worker)


@pytest.fixture
def run(clock: Clock) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine on simulated time: `asyncio.sleep` moves the clock and takes no time."""
    loop = SimulatedLoop(clock)
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

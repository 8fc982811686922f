"""The schedules are played from the start of the tests, beside whatever else is tested.

They need nothing but processors, of which the end-to-end tests, which mostly wait, use few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulation.running import Found, Playing

#: `make simulate SEEDS=n` plays more.
SCHEDULES = 20_000
_PLAYING = pytest.StashKey[Playing]()


def pytest_collection_finish(session: pytest.Session) -> None:
    collecting_only = session.config.option.collectonly
    if not collecting_only and any("schedules" in _fixtures(item) for item in session.items):
        processes = os.cpu_count() or 1
        session.config.stash[_PLAYING] = Playing(0, SCHEDULES, processes, niceness=19)


def pytest_unconfigure(config: pytest.Config) -> None:
    playing = config.stash.get(_PLAYING, None)
    if playing is not None:
        playing.end()


@pytest.fixture
def schedules(pytestconfig: pytest.Config) -> Iterator[Found]:
    """What each chunk of the schedules found, as it comes."""
    return iter(pytestconfig.stash[_PLAYING])


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))

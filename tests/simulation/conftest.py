"""The schedules are played from the first test on, beside whatever else is tested.

They need nothing but processors, of which the end-to-end tests, which mostly wait, use few.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.simulation.running import Found, playing

#: `make simulate SEEDS=n` plays more.
SCHEDULES = 5_000
_PLAYED = pytest.StashKey[Iterator[Found]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    wanted = any("schedules" in getattr(item, "fixturenames", ()) for item in session.items)
    if session.config.option.collectonly or not wanted:
        return (yield)
    with playing(0, SCHEDULES, niceness=19) as played:
        session.config.stash[_PLAYED] = played
        return (yield)


@pytest.fixture
def schedules(pytestconfig: pytest.Config) -> Iterator[Found]:
    """What each chunk of the schedules found, as it comes."""
    return pytestconfig.stash[_PLAYED]

"""The table of errors is played from the first test on, beside whatever else is tested.

It needs nothing but processors, of which the end-to-end tests, which mostly wait, use few.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from multiprocessing.pool import AsyncResult

import pytest

from tests import beside
from tests.doubles.error_codes import CallSite
from tests.unit.error_table.sites import wrong_at

#: Fewer call sites are played by their tests themselves: starting processes would take longer.
_WORTH_IT = 50
#: Call site -> what was wrong there, as it comes.
_PLAYED = pytest.StashKey[dict[CallSite, "AsyncResult[list[str]]"]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    calls = [getattr(item, "callspec", None) for item in session.items]
    sites = [call.params["site"] for call in calls if call and "site" in call.params]
    if session.config.option.collectonly or len(sites) < _WORTH_IT:
        return (yield)
    with beside.processes(niceness=19) as pool:
        played = {site: pool.apply_async(wrong_at, (site,)) for site in sites}
        session.config.stash[_PLAYED] = played
        return (yield)


@pytest.fixture
def wrong_with(pytestconfig: pytest.Config) -> Callable[[CallSite], list[str]]:
    """What is wrong with any of a call site's errors."""
    played = pytestconfig.stash.get(_PLAYED, None)
    if played is not None:
        return lambda site: played[site].get()
    return wrong_at

"""The table of errors is played from the start of the tests, beside whatever else is tested.

It needs nothing but processors, of which the end-to-end tests, which mostly wait, use few.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.pool import AsyncResult, Pool
from typing import Any, NamedTuple

import pytest

#: Fewer call sites are played by their tests themselves: starting processes would take longer.
_WORTH_IT = 50


class Played(NamedTuple):
    """What the call sites' errors lead to, as it comes: site -> what was wrong."""

    pool: Pool
    wrong: dict[Any, AsyncResult[list[str]]]


_PLAYED = pytest.StashKey[Played]()


def pytest_collection_finish(session: pytest.Session) -> None:
    calls = [getattr(item, "callspec", None) for item in session.items]
    sites = [call.params["site"] for call in calls if call and "site" in call.params]
    if session.config.option.collectonly or len(sites) < _WORTH_IT:
        return
    from tests.unit.test_error_table import wrong_at

    context = multiprocessing.get_context("spawn")
    pool = context.Pool(os.cpu_count(), initializer=os.nice, initargs=(19,))
    wrong = {site: pool.apply_async(wrong_at, (site,)) for site in sites}
    session.config.stash[_PLAYED] = Played(pool, wrong)


def pytest_unconfigure(config: pytest.Config) -> None:
    played = config.stash.get(_PLAYED, None)
    if played is not None:
        played.pool.terminate()
        played.pool.join()


@pytest.fixture
def wrong_with(pytestconfig: pytest.Config) -> Callable[[Any], list[str]]:
    """What is wrong with any of a call site's errors."""
    played = pytestconfig.stash.get(_PLAYED, None)
    if played is not None:
        return lambda site: played.wrong[site].get()
    from tests.unit.test_error_table import wrong_at

    return wrong_at

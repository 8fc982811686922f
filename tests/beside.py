"""Processes that play beside the tests, and end with them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool


@contextmanager
def processes(count: int | None = None) -> Iterator[Pool]:
    """A pool of `count` new processes, None for one per processor.

    They end however the block is left.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(count, _begin) as pool:
        try:
            yield pool
        finally:
            pool.terminate()
            pool.join()


def _begin() -> None:
    """Ignore Ctrl-C, which reaches the whole group of processes: the first ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

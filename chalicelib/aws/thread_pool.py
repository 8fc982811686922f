"""Coroutines over blocking calls, run at once: each in a thread, with `calls.run`.

For pushing updates, where a thousand small requests go out together. aiobotocore on an event loop
spends several times as much on each of them (docs/BENCHMARKS.md).
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache
from typing import Any

from chalicelib.aws.calls import run

#: Objects that are read at once.
_READERS = 16


@lru_cache(maxsize=1)
def readers() -> ThreadPool:
    """The threads of this container that read objects for routes."""
    return ThreadPool(_READERS)


class ThreadPool:
    """`most`: how many threads. Far fewer of them may wait for other work of the same pool."""

    def __init__(self, most: int) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="calls")

    async def together(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The results in order. Raises the first error, once all have ended."""
        if len(work) == 1:
            return [await work[0]]
        # Each runs in a copy of the context, so that its log lines have the fields bound here.
        futures = [self._threads.submit(copy_context().run, run, one) for one in work]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    async def sleep(self, seconds: float) -> None:
        """Block this thread; the invocation has nothing else to do in it."""
        time.sleep(seconds)  # noqa: ASYNC251

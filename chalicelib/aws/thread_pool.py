"""Coroutines over blocking calls, run at once: each in a thread, with `aws.run`.

For pushing, where a thousand small requests shall go out together. Measured against aiobotocore on
an event loop, which spends several times as much on each of them (docs/BENCHMARKS.md).
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from chalicelib.aws.calls import run


class ThreadPool:
    """`most`: threads. Work that waits for other work of the pool must be far less than that."""

    def __init__(self, most: int) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="calls")

    async def together(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The results in order; of errors the first, once all have ended."""
        if len(work) == 1:
            return [await work[0]]
        # Each in a copy of the context, so that log lines keep what is bound here.
        futures = [self._threads.submit(copy_context().run, run, one) for one in work]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    async def sleep(self, seconds: float) -> None:
        """Blocks this thread; the invocation has nothing better to do in it."""
        time.sleep(seconds)  # noqa: ASYNC251

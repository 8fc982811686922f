"""Doing several things at once without leaving any behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def together(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """The results in order. Where one fails the others are cancelled, and have ended, first.

    asyncio.gather leaves them running: in a frozen and reused Lambda container they would wake up
    during somebody else's invocation and go on asking the exchange.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        if not isinstance(
            error, GeneratorExit
        ):  # thrown away with its loop: nothing may be awaited
            await asyncio.gather(*tasks, return_exceptions=True)
        raise

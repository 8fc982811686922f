"""Running coroutines at once, so that none is left running where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def together(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """The results in order. Where one fails, the others are cancelled, and its error is raised when
    they have ended.

    asyncio.gather leaves them running. In a Lambda container, which is frozen and reused, they
    would wake up during another invocation and go on asking the exchange.
    """
    if len(work) < 2:
        return [await one for one in work]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException as error:
        for task in tasks:
            task.cancel()
        # A GeneratorExit comes when the loop is thrown away: nothing may be awaited then.
        if not isinstance(error, GeneratorExit):
            await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        del tasks  # whose error knows this frame

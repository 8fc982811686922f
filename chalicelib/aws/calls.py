"""AWS calls as one awaitable function, so that a use case runs over several implementations.

`call(service, operation, **parameters)` returns the service's answer as botocore shapes it and
raises errors.CallFailed (ConditionFailed for a refused conditional write). The implementations:

* `signed_calls.SignedCalls`: blocking, without an SDK. For the API and the small event functions,
  which make a few calls one after another and must start quickly.
* `pooled_calls.PooledCalls`: many at a time, without an SDK. For the functions that plan and
  collect, whose calls took more than all else they do.
* `sdk_calls.SdkCalls`: aiobotocore, where calls are rare: the audit trail's export.
* the tests' simulated AWS, which crashes and reorders at these calls.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine over `SignedCalls`, which never suspends. No event loop is needed.

    Importing asyncio would cost the API's cold start more than all of our own code.
    """
    try:
        work.send(None)
    except StopIteration as finished:
        result: Result = finished.value
        return result
    work.close()
    raise RuntimeError("a coroutine over blocking calls must not suspend")


def batched(
    parts: Iterable[Part], size_of: Callable[[Part], int], most: int, most_bytes: int
) -> list[list[Part]]:
    """`parts` in order, in batches that one AWS request takes: of at most `most` parts and
    `most_bytes` bytes.

    A part that is larger alone has a batch of its own.
    """
    batches: list[list[Part]] = []
    used = 0
    for part in parts:
        size = size_of(part)
        if not batches or len(batches[-1]) == most or used + size > most_bytes:
            batches.append([])
            used = 0
        batches[-1].append(part)
        used += size
    return batches

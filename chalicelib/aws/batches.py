"""Cutting a list into batches that fit the limits of one AWS request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Part = TypeVar("Part")


def batched(
    parts: Iterable[Part], size_of: Callable[[Part], int], most: int, most_bytes: int
) -> list[list[Part]]:
    """`parts` in order, in batches of at most `most` parts and `most_bytes` bytes.

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

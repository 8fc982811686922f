"""A smaller world: cheaper to play, and with more edges in it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from chalicelib.candles import footers, store
from chalicelib.candles.candles import Candles
from chalicelib.tasks import part
from chalicelib.work import units, window

_Patches = dict[Any, dict[str, Any]]


@contextmanager
def small_plans() -> Iterator[None]:
    """Two PROG items a part, three units an item, two a message, one a group, one object a unit;
    four outstanding."""
    sizes: _Patches = {
        part: {"PART_PROGS": 2},
        units: {"PROG_UNITS": 3, "MESSAGE_UNITS": 2, "UNIT_PAGES": 0, "GROUP_PAGES": 1},
        window: {"refill_below": lambda collectors: 1},
    }
    with _patched(sizes):
        yield


@contextmanager
def plain_objects() -> Iterator[None]:
    """Objects that are no Parquet, which has its own tests and took a sixth of the time."""
    plain: _Patches = {
        store: {"encode": _encode, "decode": _decode},
        footers: {
            "metadata_in": lambda tail: _decode(tail)[1],
            "rows_in": lambda tail: len(_decode(tail)[0]),
        },
    }
    with _patched(plain):
        yield


def _encode(candles: Candles, metadata: Mapping[str, str]) -> bytes:
    return pickle.dumps((candles.columns, dict(metadata)))


def _decode(content: bytes) -> tuple[Candles, dict[str, str]]:
    columns, metadata = pickle.loads(content)
    return Candles(columns), metadata


@contextmanager
def _patched(patches: _Patches) -> Iterator[None]:
    before = {
        module: {name: getattr(module, name) for name in names} for module, names in patches.items()
    }
    try:
        _set(patches)
        yield
    finally:
        _set(before)


def _set(patches: _Patches) -> None:
    for module, names in patches.items():
        for name, value in names.items():
            setattr(module, name, value)

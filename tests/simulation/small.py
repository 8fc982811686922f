"""Small plans: the engine's sizes cut down, so that a few units already fill several items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib import dispatch_rules, fetching, planning_rules

_SIZES = {
    planning_rules: {"PROG_UNITS": 3, "MESSAGE_UNITS": 2, "UNIT_PAGES": 0},
    fetching: {"GROUP_PAGES": 1},
    dispatch_rules: {"REFILL_BELOW": 1},
}


@contextmanager
def small_plans() -> Iterator[None]:
    """Three units a PROG item, two a message, one a group, one object a unit; four outstanding."""
    before = {
        module: {name: getattr(module, name) for name in sizes} for module, sizes in _SIZES.items()
    }
    try:
        for module, sizes in _SIZES.items():
            for name, size in sizes.items():
                setattr(module, name, size)
        yield
    finally:
        for module, sizes in before.items():
            for name, size in sizes.items():
                setattr(module, name, size)

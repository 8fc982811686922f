"""Keys of the Tasks table that several packages build: all items of one task share its pk."""

from __future__ import annotations

from typing import Any

#: Sort key of the item that holds the task itself.
META = "META"
#: What the sort keys of a task's PROG items begin with.
PROG = "PROG#"
#: What the sort keys of a task's PART items begin with: one query from META on reads both.
PART = "PART#"
#: PART, PROG and UNITS items live longer than every attempt of their task, and than an ended one
#: may be retried; they are never read without its META item. So a ttl that is far enough away is
#: all the cleaning that they need.
CHILD_TTL_SECONDS = 22 * 86_400

_TASK = "TASK#"


def task_pk(task_id: str) -> str:
    return f"{_TASK}{task_id}"


def task_id_of(pk: str) -> str | None:
    """The id of the task that an item belongs to; None where it belongs to none."""
    return pk.removeprefix(_TASK) if pk.startswith(_TASK) else None


def item_key(task_id: str, sk: str) -> dict[str, Any]:
    """The key of one item of a task, in wire form."""
    return {"pk": {"S": task_pk(task_id)}, "sk": {"S": sk}}


def listed_as(owner: str, task_type: str, state: str) -> str:
    """The hash key of index by_state."""
    return f"{owner}#{task_type}#{state}"


def prog_key(number: int) -> str:
    return f"{PROG}{number:03d}"


def part_key(number: int) -> str:
    return f"{PART}{number:03d}"


def units_key(plan_id: str, number: int) -> str:
    """The sort key of the units of PROG item `number`."""
    return f"UNITS#{plan_id}#{number:03d}"

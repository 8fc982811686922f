"""Keys of the Tasks table that several packages build: everything of one task shares its pk."""

from __future__ import annotations

from typing import Any


def prog_key(prog: int) -> str:
    return f"PROG#{prog:03d}"


def task_pk(task_id: str) -> str:
    return f"TASK#{task_id}"


def item_key(task_id: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": task_pk(task_id)}, "sk": {"S": sk}}


#: Items below META (PROG, UNITS) outlive every attempt of their task and are never read without
#: its META, so a ttl far enough away is all the cleaning that they need.
CHILD_TTL_SECONDS = 14 * 86_400


def units_key(plan_id: str, prog: int) -> str:
    return f"UNITS#{plan_id}#{prog:03d}"

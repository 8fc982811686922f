"""The update of a task's META item: setting and removing values, and moving it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.aws.wire import to_wire
from chalicelib.tasks import states

#: Parameters of an UpdateItem, in wire form.
Update = dict[str, Any]


def move_of(
    attempt: int, to: str, values: dict[str, Any], remove: Iterable[str], needs: str = ""
) -> Update:
    """The update that moves a task to state `to` where the table of moves allows it.

    `needs`: an attribute that it must have.
    """
    sources = {f":from{at}": to_wire(state) for at, state in enumerate(states.MOVES[to])}
    condition = f"#attempt = :expected AND #state IN ({', '.join(sources)}){has(needs)}"
    bound = {":expected": to_wire(attempt), **sources}
    return update_of({"state": to, **values}, remove, condition, bound)


def has(needs: str) -> str:
    """The part of a condition that asks for an attribute; nothing where none is needed."""
    return f" AND attribute_exists({needs})" if needs else ""


def update_of(
    values: dict[str, Any], remove: Iterable[str], condition: str, bound: Update
) -> Update:
    """The update that sets and removes attributes; `bound`: the condition's own values, in wire
    form."""
    clauses = {
        "SET ": [f"#{name} = :{name}" for name in values],
        "REMOVE ": [f"#{name}" for name in remove],
    }
    return {
        "UpdateExpression": " ".join(
            clause + ", ".join(parts) for clause, parts in clauses.items() if parts
        ),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in (*values, *remove, "attempt")},
        "ExpressionAttributeValues": {
            **bound,
            **{f":{name}": to_wire(value) for name, value in values.items()},
        },
    }

"""The write of a task's META item: setting and removing values, and moving it. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from chalicelib.aws.wire import to_wire
from chalicelib.core.task_keys import listed_as
from chalicelib.tasks import states
from chalicelib.tasks.state_counts import place_of

#: Parameters of an UpdateItem, in wire form.
Update = dict[str, Any]
Item = dict[str, Any]


class Move(NamedTuple):
    """A write of a task at one attempt. `to`: the state that it moves to, along the table of moves;
    None where it stays; `needs`: an attribute that it must have; "" for none."""

    attempt: int
    to: str | None
    values: dict[str, Any]
    remove: tuple[str, ...] = ()
    needs: str = ""

    @property
    def is_counted(self) -> bool:
        """Whether it may change where the task is counted (tasks/state_counts.py)."""
        return self.to is not None or "ttl" in (*self.values, *self.remove)

    def may_follow(self, item: Item) -> bool:
        """Whether an item allows it: what the condition of `update` says."""
        return (
            item["attempt"] == self.attempt
            and (self.to is None or item["state"] in states.MOVES[self.to])
            and (not self.needs or self.needs in item)
        )

    def applied(self, item: Item) -> Item:
        """The item after it, counted where it belongs then."""
        new = {name: value for name, value in item.items() if name not in self.remove}
        new.update(self.values)
        if self.to is not None:
            new["state"] = self.to
        new["listed_as"] = listed_as(new["owner"], new["task_type"], new["state"])
        new["counted"] = place_of(new["task_id"], new["state"], new.get("ttl"))
        return new

    def update(self, old: Item | None = None) -> Update:
        """The update. With `old`, what was read, it also notes where the task is counted then, and
        holds only where it still is counted as it was."""
        values, bound = dict(self.values), {":expected": to_wire(self.attempt)}
        conditions = ["#attempt = :expected"]
        if self.to is not None:
            values["state"] = self.to
            sources = {
                f":from{at}": to_wire(from_) for at, from_ in enumerate(states.MOVES[self.to])
            }
            bound.update(sources)
            conditions.append(f"#state IN ({', '.join(sources)})")
        if self.needs:
            conditions.append(f"attribute_exists({self.needs})")
        if old is not None:
            new = self.applied(old)
            values.update({name: new[name] for name in ("counted", "listed_as")})
            if "counted" in old:
                bound[":seen"] = to_wire(old["counted"])
            conditions.append("#counted = :seen" if "counted" in old else _UNCOUNTED)
        return _update(values, self.remove, " AND ".join(conditions), bound)


#: Of tasks that were made before tasks were counted: they are, from their next move on.
_UNCOUNTED = "attribute_not_exists(#counted)"


def _update(
    values: dict[str, Any], remove: tuple[str, ...], condition: str, bound: dict[str, Any]
) -> Update:
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

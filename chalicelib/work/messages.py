"""What travels through the queues.

plan:     {"v": 1, "kind": "plan", "task": id, "attempt": n}
dispatch: {"v": 1, "kind": "dispatch", "task": id, "attempt": n, "turn": ms}
collect:  {"v": 1, "kind": "collect", "task": id, "attempt": n, "prog": p, "priority": "normal",
           "symbol": "BTCUSDT", "fill": "new",
           "units": [[number, "1m", start_ms, end_ms, whole_ms], ...]}

The plan queue carries plan messages (plan a task and send its first messages) and dispatch messages
(send more messages of a task that is planned). A task of low priority that lets others go first
sends itself a dispatch message with `turn`: the time of that, in epoch ms. `number` is the unit's
number inside its PROG item; windows are half open. From `whole_ms` on all of a window is asked for:
what was not known when the task was planned. Before that, by `fill`: "new", gaps that are due;
"gaps", what was never asked for, and every gap that nothing explains; "all": nothing, `whole_ms` is
the start. With "verify" and "repair" a unit is an object, which is read again.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chalicelib.core.errors import PoisonMessage
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.work.priorities import PRIORITIES

VERSION = 1

NEW, GAPS, ALL = "new", "gaps", "all"
#: What people may ask for of a collection.
FILLS = (NEW, GAPS, ALL)
#: Instead of collecting, stored objects are read again; and what is wrong is mended.
VERIFY, REPAIR = "verify", "repair"
VERIFYING = (VERIFY, REPAIR)


class Unit(NamedTuple):
    number: int
    timeframe: str
    start_ms: int
    end_ms: int
    whole_ms: int = 0


class PlanMessage(NamedTuple):
    task_id: str
    attempt: int

    def encode(self) -> str:
        return _dump({"kind": "plan", "task": self.task_id, "attempt": self.attempt})


class DispatchMessage(NamedTuple):
    task_id: str
    attempt: int
    turn: int = 0

    def encode(self) -> str:
        fields = {"kind": "dispatch", "task": self.task_id, "attempt": self.attempt}
        return _dump({**fields, "turn": self.turn} if self.turn else fields)


class CollectMessage(NamedTuple):
    task_id: str
    attempt: int
    prog: int
    priority: str
    symbol: str
    units: tuple[Unit, ...]
    fill: str = NEW

    @property
    def labels(self) -> dict[int, str]:
        """Unit number -> "<symbol> <timeframe>", for people."""
        return {unit.number: f"{self.symbol} {unit.timeframe}" for unit in self.units}

    def encode(self) -> str:
        return _dump(
            {
                "kind": "collect",
                "task": self.task_id,
                "attempt": self.attempt,
                "prog": self.prog,
                "priority": self.priority,
                "symbol": self.symbol,
                "fill": self.fill,
                "units": [list(unit) for unit in self.units],
            }
        )


def decode(body: str) -> PlanMessage | DispatchMessage | CollectMessage:
    """Raises PoisonMessage for anything that `encode` did not write."""
    try:
        fields = json.loads(body)
        if fields["v"] != VERSION:
            raise PoisonMessage(f"message version {fields['v']!r} is not known")
        if fields["kind"] == "plan":
            return PlanMessage(_text(fields["task"]), _count(fields["attempt"], 1))
        if fields["kind"] == "dispatch":
            turn = _count(fields.get("turn", 0), 0)
            return DispatchMessage(_text(fields["task"]), _count(fields["attempt"], 1), turn)
        if fields["kind"] == "collect":
            return _collect(fields)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise PoisonMessage(f"unreadable message: {error!r}") from error
    raise PoisonMessage(f"message kind {fields['kind']!r} is not known")


def _collect(fields: dict[str, Any]) -> CollectMessage:
    units = tuple(
        Unit(_count(number, 0), _text(timeframe), *(_count(at_ms, 0) for at_ms in times))
        for number, timeframe, *times in fields["units"]
    )
    if not units or len({unit.number for unit in units}) != len(units):
        raise PoisonMessage("units must be there, each once")
    if any(unit.timeframe not in LENGTH_MS or unit.start_ms >= unit.end_ms for unit in units):
        raise PoisonMessage("a unit needs a known timeframe and a window")
    if fields["priority"] not in PRIORITIES:
        raise PoisonMessage(f"priority {fields['priority']!r} is not known")
    if fields.get("fill", NEW) not in (*FILLS, *VERIFYING):
        raise PoisonMessage(f"fill {fields['fill']!r} is not known")
    return CollectMessage(
        task_id=_text(fields["task"]),
        attempt=_count(fields["attempt"], 1),
        prog=_count(fields["prog"], 0),
        priority=fields["priority"],
        symbol=_text(fields["symbol"]),
        units=units,
        fill=fields.get("fill", NEW),
    )


def _dump(fields: dict[str, Any]) -> str:
    # ASCII: SQS refuses a message with a character that XML has not.
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":"))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise PoisonMessage(f"{value!r} should be a text")
    return value


def _count(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PoisonMessage(f"{value!r} should be an integer of at least {least}")
    return value

"""Names for what happened to units, which PROG items hold by number only."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.aws.stream import Change
from chalicelib.core.timeframes import iso
from chalicelib.events.happening import Happening
from chalicelib.wiring import Desk


async def named(desk: Desk, change: Change, happening: Happening) -> Happening:
    """The happening with its units' symbols, timeframes and windows, and its task's owner.

    Two reads, for failed units alone. Where the task is gone since, the numbers have to do.
    """
    if happening.action != "task.unit_failed":
        return happening
    meta = await desk.tasks.read(change.pk.removeprefix("TASK#"), desk.now_ms())
    if meta is None or "plan_id" not in meta:
        return happening
    data = happening.data
    units = await desk.tasks.read_units(meta["task_id"], meta["plan_id"], data["prog"])
    told = []
    for failed in data["units"]:
        if failed["number"] < len(units):
            symbol, timeframe, start_ms, end_ms = units[failed["number"]]
            window = {"start": iso(start_ms), "end": iso(end_ms)}
            failed = {"symbol": symbol, "timeframe": timeframe, **window, **failed}
        told.append(failed)
    return replace(happening, data={**data, "units": told}, owner=meta.get("owner"))

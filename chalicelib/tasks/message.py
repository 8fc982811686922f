"""What a task says of itself to people, in answers, lists and pushed updates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.exchange.ledger_state import Hold, LedgerState
from chalicelib.tasks import states
from chalicelib.tasks.deadline import MOST_HELD_MS, extended
from chalicelib.tasks.part import Part, Tally
from chalicelib.tasks.progress import Progress, Trouble, of_attempt
from chalicelib.tasks.task import Counts, Task
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import TURN_LOST_MS

if TYPE_CHECKING:
    from chalicelib.candles.coverage_table import Coverages

#: Symbols that a notice names.
_MOST_NAMED = 5


def message_of(
    task: Task, tally: Tally, counts: Counts, now_ms: int, pause: LedgerState | None
) -> str:
    """What happens to the task now, or what came of it.

    `pause`: what the ledger says of the exchange's limit, for active tasks.
    """
    if task.is_active and pause and pause.is_paused(now_ms):
        return _waiting(task, pause, now_ms)
    if task.state != states.RUNNING:
        return task.message
    counted = counts["succeeded"] + counts["failed"]
    share = f"({counted}/{counts['units']})"
    current = of_attempt(task.attempt, tally.progs)
    counting: list[Part | Progress] = [
        *(part for part in tally.parts if part.attempt == task.attempt),
        *current,
    ]
    last = max(counting, key=lambda each: each.last_at or 0, default=None)
    last_at = last.last_at or 0 if last else 0
    troubles = _troubles(current)
    # An older trouble shows again once nothing else is left to collect.
    if troubles and (troubles[-1].at >= last_at or len(troubles) == counts["units"] - counted):
        return f"Retrying {troubles[-1].text} {share}"
    if now_ms - (task.yielded_at or 0) < TURN_LOST_MS:
        return f"Waiting for tasks of higher priority {share}"
    if last is None or last.last_label is None:
        return task.message
    if last.last_reason is not None:
        return f"Failed {last.last_label}: {last.last_reason} {share}"
    return f"Collected data for {last.last_label} {share}"


def closing(result: Counts, notice: str | None) -> str:
    """What came of a task whose units are all counted."""
    said = [
        f"Collected {result['succeeded']} of {result['units']} units, {result['candles']} candles"
    ]
    stored = result.get("from_store", 0)
    if stored:
        said.append(f"{stored} {'unit was' if stored == 1 else 'units were'} stored already")
    odd = {"revised": result["revised_candles"], "rejected": result["rejected_candles"]}
    if any(odd.values()):
        said.append(", ".join(f"{count} {what}" for what, count in odd.items() if count))
    if result["failed"]:
        said.append(f"{result['failed']} units failed")
    return "; ".join([*said, *([notice] if notice else [])])


def notice_of(request: CollectionRequest, stored: Mapping[str, Coverages]) -> str | None:
    """What is to be known of a range that begins before symbols were listed; None: nothing.

    `stored`: what is known of symbols.
    """
    begins = {
        symbol: min(late)
        for symbol, known in stored.items()
        if (late := [*_late(request, symbol, known)])
    }
    if not begins:
        return None
    ordered = sorted(begins.items(), key=lambda entry: (entry[1], entry[0]))
    named = ", ".join(f"{symbol} before {iso(at)}" for symbol, at in ordered[:_MOST_NAMED])
    more = f", and of {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return f"the exchange has no candles of {named}{more}"


def _late(request: CollectionRequest, symbol: str, known: Coverages) -> Iterator[int]:
    """When the first candles opened, where that is after the range of the request begins."""
    for timeframe in request.timeframes_of(symbol):
        listed_ms = (known[timeframe].listed if timeframe in known else None) or 0
        if request.start_ms is not None and listed_ms > request.start_ms:
            yield listed_ms


def paused_by(hold: Hold) -> str:
    """Who has paused all requests, since when, until when and why."""
    until = f" until {iso(hold.until_ms)}" if hold.until_ms < FOREVER_MS else ""
    why = f" ({hold.reason})" if hold.reason else ""
    return f"paused by {hold.by} since {iso(hold.since_ms)}{until}{why}"


def out_of_time(task: Task, progs: Iterable[Progress], pause: LedgerState, now_ms: int) -> str:
    """Why a task whose deadline has passed had not ended, as far as that is known."""
    known = ["the task's time ran out"]
    if pause.paused_until >= task.deadline_at:
        known.append(
            f"it waited for the exchange until {iso(pause.paused_until)} ({pause.pause_reason})"
        )
    if hold := pause.hold_at(now_ms):
        known.append(f"it was {paused_by(hold)}")
    if troubles := _troubles(of_attempt(task.attempt, progs)):
        known.append(f"the last trouble was {troubles[-1].text}")
    return "; ".join(known)


def _waiting(task: Task, pause: LedgerState, now_ms: int) -> str:
    if hold := pause.hold_at(now_ms):
        last_ms = task.deadline_at + MOST_HELD_MS
        wait = f"; the task can wait until {iso(last_ms)}" if hold.until_ms >= last_ms else ""
        return f"P{paused_by(hold)[1:]}{wait}"
    deadline_ms = extended(task, pause, now_ms)
    until = iso(pause.paused_until)
    said = f"Waiting for the exchange until {until}"
    if pause.paused_until < deadline_ms:
        return said
    return (
        f"{said}, which is too late: unless the exchange answers before, the task fails at "
        f"{iso(deadline_ms)}. Retry it after {until}, "
        "or start it again with a longer timeout_seconds"
    )


def _troubles(progs: list[Progress]) -> list[Trouble]:
    """The troubles of all units that wait for another try, oldest first."""
    return sorted(why for prog in progs for why in prog.waiting.values())

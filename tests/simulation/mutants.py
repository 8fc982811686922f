"""Mutants: the engine with one guard removed. Each must be killed by a simulated schedule.

`python -m tests.simulation.mutants` prints each with the seed that killed it; exit code 1 where
one survived.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from chalicelib.audit.table import AuditTable
from chalicelib.candles.candles import Candles, merged
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.store import CandleStore
from chalicelib.collecting import bury, dispatch, fetch, listing, plan, sweep
from chalicelib.collecting import collect as collector
from chalicelib.collecting.collect import Outcome
from chalicelib.collecting.gate import Gate
from chalicelib.core import times
from chalicelib.events.trail import Trail
from chalicelib.exchange import ledger
from chalicelib.exchange.ledger_state import LedgerState
from chalicelib.exchange.share import Spent, WeightLimits
from chalicelib.functions import batches
from chalicelib.quotas import places
from chalicelib.tasks import (
    fence,
    finish,
    prog_items,
    retry,
    states,
    submit,
    table,
    task,
    view,
)
from chalicelib.tasks.moves import Move
from chalicelib.tasks.part import Tally
from chalicelib.tasks.progress import Progress
from chalicelib.tasks.state_counts import StateCounts
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Counts, Task
from chalicelib.work.queue import WorkQueue
from tests.doubles.settings import backend_of
from tests.simulation.people import NEW_YEAR_MS
from tests.simulation.running import play
from tests.simulation.world import World

MOST_SEEDS = 600


@dataclass(frozen=True)
class Mutant:
    """`patched` removes the guard while it lasts; `prepare` changes each world instead.

    With both, the guard is missed in worlds so prepared: one that sweep otherwise makes up for.

    `killer` is a seed that is known to kill it, tried first: some races are rare.
    """

    name: str
    patched: Callable[[], AbstractContextManager[None]] | None = None
    prepare: Callable[[World], None] | None = None
    killer: int = 0

    def killed_by(self, most: int = MOST_SEEDS) -> tuple[int, str] | None:
        """The first seed whose schedule breaks, and how; None where the mutant survives."""
        for seed in (self.killer, *range(most)):
            with (self.patched or _unchanged)():
                broken = play([seed], self.prepare).broken
            # A seed that breaks the engine as it is says nothing of the mutant.
            unchanged = self.prepare if self.patched else None
            if broken and not play([seed], unchanged).broken:
                return seed, broken[seed]
        return None


@contextmanager
def _unchanged() -> Iterator[None]:
    yield


def replacing(target: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], Any]:
    """A context in which `target.name` is what `make` makes of it."""

    @contextmanager
    def patched() -> Iterator[None]:
        original = getattr(target, name)
        setattr(target, name, make(original))
        try:
            yield
        finally:
            setattr(target, name, original)

    return patched


def both(*patches: Callable[[], Any]) -> Callable[[], Any]:
    @contextmanager
    def patched() -> Iterator[None]:
        first, *rest = patches
        with first():
            if rest:
                with both(*rest)():
                    yield
            else:
                yield

    return patched


def _rewriting(
    change: Callable[[dict[str, Any]], None], which: str = "done :units"
) -> Callable[[], Any]:
    """The update that counts units, or that `which` is a part of, changed before it is sent."""

    def make(original: Any) -> Any:
        async def update(self: TaskTable, key: dict[str, Any], **parameters: Any) -> Any:
            if which in parameters["UpdateExpression"]:
                change(parameters)
            return await original(self, key, **parameters)

        return update

    return replacing(TaskTable, "_update", make)


def _drop(pattern: str, *values: str, name: str = "") -> Callable[[dict[str, Any]], None]:
    def change(parameters: dict[str, Any]) -> None:
        condition = re.sub(pattern, "", parameters["ConditionExpression"])
        parameters["ConditionExpression"] = (
            condition.removeprefix(" AND ") or "attribute_exists(pk)"
        )
        for value in [*parameters["ExpressionAttributeValues"]]:
            if any(re.fullmatch(wanted, value) for wanted in values):
                del parameters["ExpressionAttributeValues"][value]
        if name:
            del parameters["ExpressionAttributeNames"][name]

    return change


def _keeping_trouble(parameters: dict[str, Any]) -> None:
    parameters["UpdateExpression"] = re.sub(r"t_(\d+)", r"kept_\1", parameters["UpdateExpression"])


def _from_a_counter(parameters: dict[str, Any]) -> None:
    count = len(parameters["ExpressionAttributeValues"][":units"]["NS"])
    _drop(r" AND NOT contains\(done, :u\d+\)", r":u\d+")(parameters)
    parameters["UpdateExpression"] += ", counted :counted"
    parameters["ExpressionAttributeValues"][":counted"] = {"N": str(count)}


class _Counter(Progress):
    counted = 0


def _with_counter(original: Any) -> Any:
    def progress_from(item: dict[str, Any], *more: Any, **kw: Any) -> Progress:
        progress = _Counter(*original(item, *more, **kw))
        progress.counted = item.get("counted", 0)
        return progress

    return progress_from


def _counter_is_full(_: Any) -> Any:
    return lambda prog: prog.counted >= prog.unit_count > 0


def _ignoring_failed(_: Any) -> Any:
    async def send(self: Any, url: str, batch: Any, delay_seconds: int) -> list[Any]:
        entries = [
            {"Id": str(at), "MessageBody": m.encode(), "MessageGroupId": m.task_id}
            for at, m in enumerate(batch)
        ]
        await self._call("sqs", "SendMessageBatch", QueueUrl=url, Entries=entries)
        return []

    return send


def _keyed_by_receipt(original: Any) -> Any:
    async def each(event: Any, one: Any) -> Any:
        answer = await original(event, one)
        handles = {record["messageId"]: record["receiptHandle"] for record in event["Records"]}
        failed = [handles[entry["itemIdentifier"]] for entry in answer["batchItemFailures"]]
        return {"batchItemFailures": [{"itemIdentifier": handle} for handle in failed]}

    return each


def _of_the_breaker_alone(condition: str) -> str:
    return condition.partition(" AND ")[0]


def _same_attempt(original: Any) -> Any:
    async def move(self: Any, task_id: str, expected: int, to: str, /, **values: Any) -> Any:
        if to == states.PENDING:
            values = {**values, "attempt": expected}
        return await original(self, task_id, expected, to, **values)

    return move


def _random_key(original: Any) -> Any:
    def key(self: Any, *where: Any) -> str:
        return str(original(self, *where)).replace(".parquet", f"-{uuid.uuid4().hex}.parquet")

    return key


def _in_two_puts(original: Any) -> Any:
    async def write(
        self: Any, symbol: str, timeframe: str, at_ms: int, *rest: Any, **kw: Any
    ) -> Any:
        candles, covering, *more = rest
        where = (self, symbol, timeframe, at_ms)
        await original(*where, candles, lambda _, known: known, *more, **kw)
        return await original(*where, Candles(), covering, *more)

    return write


def _covering_first(original: Any) -> Any:
    async def write(
        self: Any, symbol: str, timeframe: str, at_ms: int, *rest: Any, **kw: Any
    ) -> Any:
        candles, covering, *more = rest

        def as_if_held(whole: Any, known: Any) -> Any:
            return covering(merged(whole, candles).candles, known)

        where = (self, symbol, timeframe, at_ms)
        await original(*where, Candles(), as_if_held, *more, **kw)
        return await original(*where, *rest, **kw)

    return write


def _not_looking_again(original: Any) -> Any:
    async def record(self: Any, symbol: str, known: Any, changed: Any) -> None:
        async def as_it_was(_: Any) -> Any:
            return await changed(known.summaries)

        await original(self, symbol, known, as_it_was)

    return record


def _acknowledging_first(original: Any) -> Any:
    async def collect(worker: Any, budget: Any, event: Any, remaining_ms: Any) -> Any:
        world = worker.exchange._container.world
        for url in (world.settings.urgent_queue_url, world.settings.work_queue_url):
            for record in event["Records"]:
                world.aws.sqs.delete(url, record["receiptHandle"])
        return await original(worker, budget, event, remaining_ms)

    return collect


def _not_closing(_: Any) -> Any:
    async def close(backend: Any, task: Task) -> Tally:
        return (await TaskTable(backend).read_with_tally(task.task_id))[1]

    return close


def _dropping_the_rest(_: Any) -> Any:
    async def hand_on(*_: Any) -> Outcome:
        return Outcome.DONE

    return hand_on


def _old_failures_too(original: Any) -> Any:
    def totals(attempt: int, units: int, tally: Tally) -> Counts:
        parts = tuple(part._replace(attempt=attempt) for part in tally.parts)
        counts: Counts = original(attempt, units, tally._replace(parts=parts))
        return counts

    return totals


def _noting_nothing_opened(parameters: dict[str, Any]) -> None:
    parameters["ExpressionAttributeValues"][":opened"] = {"N": "0"}


def _keeping_nothing(parameters: dict[str, Any]) -> None:
    parameters["ExpressionAttributeValues"][":count"] = {"N": "0"}


def _beginning_empty(original: Any) -> Any:
    return lambda number, attempt, size, _: original(number, attempt, size, [])


def _never_looking_back(_: Any) -> Any:
    async def find(self: Any, subject: str, place: Any) -> Any:
        await self._back(subject, 0)
        return None, False

    return find


def _overwriting(original: Any) -> Any:
    async def add(self: Any, event: Any, ttl: int) -> None:
        async def call(service: str, operation: str, **parameters: Any) -> Any:
            together = parameters.get("TransactItems", [])
            for put in [entry["Put"] for entry in together] or [parameters]:
                put.pop("ConditionExpression", None)
            return await self._call(service, operation, **parameters)

        await original(AuditTable(backend_of(call, audit_table=self._table)), event, ttl)

    return add


def _checked_once(original: Any) -> Any:
    async def check(self: Any, weight: int) -> None:
        if not self._checked:
            await original(self, weight)

    return check


def _believing_short_pages(original: Any) -> Any:
    def left_open(*asked: Any) -> Any:
        original(*asked)
        return []

    return left_open


def _forgetting_what_is_held(original: Any) -> Any:
    async def write(
        self: Any, symbol: str, timeframe: str, at_ms: int, *rest: Any, **kw: Any
    ) -> Any:
        candles, covering, *more = rest

        def of_the_answer(_: Any, known: Any) -> Any:
            return covering(candles, known)

        return await original(self, symbol, timeframe, at_ms, candles, of_the_answer, *more, **kw)

    return write


def _believing_the_oldest_row(_: Any) -> Any:
    async def first_open(worker: Any, symbol: str, timeframe: str, permit: Any) -> int | None:
        page = await worker.exchange.klines(symbol, timeframe, 0, worker.now_ms(), permit)
        return min((row[0] for row in page.rows), default=None)

    return first_open


def _no_sweep(world: World) -> None:
    world.sweeps = False


def _no_bury(world: World) -> None:
    world.buries = False


def _exchange_fails_often(world: World) -> None:
    world.faults.rates["exchange_fails"] = 0.5


def _one_task_each(world: World) -> None:
    world.limit(owner_active_tasks=1)


def _one_task_each_at_once(world: World) -> None:
    _one_task_each(world)
    world.hasty = True


def _retried_at_work(world: World) -> None:
    """Tasks are cancelled, and some retried, while their first requests are still under way."""
    world.hasty = True
    world.faults.rates["exchange_slow"] = 0.5


def _delivered_to_two(world: World) -> None:
    """Nothing else goes wrong than that a message is often with two workers, one of them slow."""
    world.hasty = True
    world.faults.rates = dict.fromkeys(world.faults.rates, 0.0)
    world.faults.rates.update(duplicate_delivery=0.4, exchange_slow=0.25)


def _dropping_candles(world: World) -> None:
    """The exchange drops candles while tasks run, and messages are often with two workers."""
    _delivered_to_two(world)
    draws = Random(world.seed)
    for half in range(-4, 5):
        dropped_ms = world.started_ms + draws.randrange(40_000)
        at_ms = NEW_YEAR_MS + half * 1_800_000
        world.exchange.unserved[at_ms] = (dropped_ms, times.FOREVER_MS)


def _few_units(world: World) -> None:
    world.limit(owner_units_per_day=200)


def _beside(which: str) -> Callable[[], Any]:
    """The part of a transaction that writes items whose sort keys begin so is written before it."""

    def make(original: Any) -> Any:
        async def together(self: Any, *parts: Any) -> None:
            rest = []
            for kind, part in parts:
                if part.get("Key", {}).get("sk", {}).get("S", "").startswith(which):
                    await self._call("dynamodb", "UpdateItem", TableName=self._table, **part)
                else:
                    rest.append((kind, part))
            await original(self, *rest)

        return together

    return replacing(TaskTable, "_together", make)


def _wherever_it_is_counted(original: Any) -> Any:
    def update(self: Any, old: Any = None) -> Any:
        made = original(self, old)
        if old is not None:
            _drop(r" AND (#counted = :seen|attribute_not_exists\(#counted\))", ":seen")(made)
        return made

    return update


def _as_of_before(original: Any) -> Any:
    async def read(self: Any, owner: str, now_ms: int) -> Any:
        return await original(self, owner, now_ms - 1000)

    return read


def nothing_goes_wrong(world: World) -> None:
    """No faults, and no sweep that would make them good: none is needed then."""
    world.faults.rates = dict.fromkeys(world.faults.rates, 0.0)
    world.sweeps = False


def _as_new(_: Any) -> Any:
    async def running_or_new(*arguments: Any) -> tuple[str, bool]:
        return arguments[-1], False

    return running_or_new


def _leaving_retries(original: Any) -> Any:
    async def move(*arguments: Any, **values: Any) -> Any:
        values.pop("retries_left", None)
        return await original(*arguments, **values)

    return move


def _never_asking(_: Any) -> Any:
    async def ask(*_: Any, **__: Any) -> None:
        return

    return ask


def _all_at_once(_: Any) -> Any:
    return lambda standings, collectors: [each.number for each in standings if not each.sent]


def _going_first(_: Any) -> Any:
    async def must_wait(*_: Any) -> bool:
        return False

    return must_wait


def _not_coming_back(original: Any) -> Any:
    async def send_plan(self: Any, message: Any, delay_seconds: int = 0) -> None:
        if not delay_seconds:
            await original(self, message)

    return send_plan


def _crowded(world: World) -> None:
    """One task can use up the exchange's limit; nothing else goes wrong."""
    world.faults.rates = dict.fromkeys(world.faults.rates, 0.0)
    world.crowd(Random(world.seed), 1)


def _loses_messages(world: World) -> None:
    world.faults.rates["message_lost"] = 0.5
    world.busy = True


def _only_when_idle(original: Any) -> Any:
    async def send_again(backend: Any, *args: Any) -> None:
        depths = (await WorkQueue(backend).depths()).values()
        if not any(count for depth in depths for count in depth.values()):
            await original(backend, *args)

    return send_again


def _at_the_same_pace(original: Any) -> Any:
    return lambda backend, prog, *now: original(backend, prog._replace(sent_again=0), *now)


MUTANTS = (
    Mutant("no fence", _rewriting(_drop(r" AND NOT contains\(done, :u\d+\)", r":u\d+"))),
    Mutant(
        "no attempt in the condition",
        _rewriting(_drop(r"attempt = :attempt", ":attempt")),
        _retried_at_work,
        killer=16,
    ),
    Mutant(
        "no state in the condition",
        _rewriting(_drop(r" AND #state = :open", ":open", name="#state")),
    ),
    Mutant(
        "progress from a counter",
        both(
            _rewriting(_from_a_counter),
            replacing(fence, "progress_from", _with_counter),
            replacing(prog_items, "progress_from", _with_counter),
            replacing(table, "progress_from", _with_counter),
            replacing(finish, "is_full", _counter_is_full),
        ),
    ),
    Mutant(
        "acknowledge before progress", replacing(batches, "collect_batch", _acknowledging_first)
    ),
    Mutant("ignore Failed entries", replacing(WorkQueue, "_send_batch", _ignoring_failed)),
    Mutant("a random object key", replacing(CandleStore, "key", _random_key)),
    Mutant("candles before their coverage", replacing(CandleStore, "write", _in_two_puts)),
    Mutant("coverage before its candles", replacing(CandleStore, "write", _covering_first)),
    Mutant(
        "who loses a race for a summary does not look again",
        replacing(CoverageTable, "record", _not_looking_again),
    ),
    Mutant("no sweep", prepare=_no_sweep),
    Mutant("no bury", prepare=_no_bury),
    Mutant("no ttl filter", replacing(task, "is_expired", lambda _: lambda *_: False)),
    Mutant("retry keeps the attempt", replacing(TaskTable, "move", _same_attempt)),
    Mutant("batch failure keyed wrongly", replacing(batches, "each", _keyed_by_receipt)),
    Mutant(
        "a part counts an item twice",
        _rewriting(
            _drop(r" AND NOT contains\(finished, :number\)", ":number"), "#finished :finished"
        ),
    ),
    Mutant("opened items are not noted", _rewriting(_noting_nothing_opened, "opened = :opened")),
    Mutant("kept units count twice", _rewriting(_keeping_nothing, "kept = :count")),
    Mutant("a retry forgets what is kept", replacing(plan, "begun_again", _beginning_empty)),
    Mutant(
        "a full item wants candles",
        replacing(collector, "is_full", lambda _: lambda prog: False),
        _delivered_to_two,
        killer=900,
    ),
    Mutant("cancel leaves items open", replacing(finish, "close_progs", _not_closing)),
    Mutant("items are full at once", replacing(finish, "is_full", lambda _: lambda prog: True)),
    Mutant("requests are permitted once for all", replacing(Gate, "_check", _checked_once)),
    Mutant(
        "a short page is the end", replacing(fetch, "left_open", _believing_short_pages), killer=132
    ),
    Mutant(
        "a candle that is not served any more is a gap",
        replacing(CandleStore, "write", _forgetting_what_is_held),
        _dropping_candles,
        killer=3,
    ),
    Mutant(
        "the oldest row that comes is the listing",
        both(
            replacing(listing, "first_open", _believing_the_oldest_row),
            replacing(fetch, "first_open", _believing_the_oldest_row),
        ),
        killer=27,
    ),
    Mutant("the trail never looks back", replacing(Trail, "_find", _never_looking_back)),
    Mutant("the trail overwrites", replacing(AuditTable, "add", _overwriting)),
    Mutant("the rest is not handed on", replacing(collector, "_hand_on", _dropping_the_rest)),
    Mutant(
        "failures of older attempts count",
        both(
            replacing(finish, "totals", _old_failures_too),
            replacing(view, "totals", _old_failures_too),
        ),
        killer=6,
    ),
    Mutant(
        "more is never asked for",
        both(
            replacing(collector, "ask_for_more", _never_asking),
            replacing(bury, "ask_for_more", _never_asking),
        ),
        nothing_goes_wrong,
    ),
    Mutant("window not bounded", replacing(dispatch, "next_progs", _all_at_once)),
    Mutant("low does not give way", replacing(dispatch, "_must_wait", _going_first)),
    Mutant(
        "low does not come back",
        replacing(WorkQueue, "send_plan", _not_coming_back),
        nothing_goes_wrong,
    ),
    Mutant("trouble outlives its count", _rewriting(_keeping_trouble)),
    Mutant(
        "an item opened again keeps its trouble",
        replacing(prog_items, "TROUBLE", lambda _: "kept_"),
        _exchange_fails_often,
    ),
    Mutant("a claim is for ever", replacing(finish, "LEASE_MS", lambda _: 1 << 60)),
    Mutant(
        "lost messages are sent again when no queue holds any",
        replacing(sweep, "_send_again", _only_when_idle),
        _loses_messages,
    ),
    Mutant(
        "messages are sent again at the same pace",
        replacing(sweep, "_is_stalled", _at_the_same_pace),
        _loses_messages,
    ),
    Mutant(
        "a pause is ignored",
        both(
            replacing(ledger, "_NOT_PAUSED", _of_the_breaker_alone),
            replacing(LedgerState, "hold_at", lambda _: lambda state, now_ms: None),
        ),
        killer=23,
    ),
    Mutant(
        "the share rises above the ceiling",
        replacing(WeightLimits, "bounded", lambda _: lambda limits, share: max(1, share)),
        _crowded,
        killer=23,
    ),
    Mutant(
        "more than the ceiling may be taken",
        replacing(Spent, "rooms", lambda _: lambda spent, limits, *_: (limits.exchange, 1 << 40)),
        _crowded,
    ),
    Mutant(
        "nothing is kept for high",
        replacing(WeightLimits, "kept", lambda _: lambda limits, high: 0),
        _crowded,
    ),
    Mutant(
        "a task's time runs on while paused",
        replacing(LedgerState, "held_ms", lambda _: lambda state, since_ms, now_ms: 0),
        killer=106,
    ),
    Mutant(
        "a place that was just taken is free",
        replacing(places, "LEASE_MS", lambda _: 0),
        _one_task_each_at_once,
        killer=32,
    ),
    Mutant("a retry takes no place", replacing(retry, "take_place", _never_asking), _one_task_each),
    Mutant("units are counted beside the move", _beside("DAY#"), _few_units),
    Mutant("tasks are counted beside the move", _beside("COUNT#")),
    Mutant(
        "a task is taken out of a count that it may have left",
        replacing(Move, "update", _wherever_it_is_counted),
        killer=248,
    ),
    Mutant(
        "a ttl does not move a count",
        replacing(Move, "is_counted", lambda _: property(lambda move: move.to is not None)),
    ),
    Mutant(
        "what has just expired counts", replacing(StateCounts, "read", _as_of_before), killer=93
    ),
    Mutant(
        "a start does not look what runs", replacing(submit, "running_or_new", _as_new), killer=225
    ),
    Mutant("a policy has no end", replacing(TaskTable, "move", _leaving_retries), killer=25),
    Mutant(
        "a due attempt is forgotten where its message is lost",
        replacing(sweep, "open_next_attempt", _never_asking),
        killer=88,
    ),
    Mutant("sweep does not ask for more", replacing(sweep, "next_progs", lambda _: lambda *_: [])),
)


def main() -> int:
    survivors = 0
    for mutant in MUTANTS:
        killed = mutant.killed_by()
        survivors += killed is None
        verdict = "SURVIVED" if killed is None else f"killed by seed {killed[0]}: {killed[1][:100]}"
        print(f"{mutant.name:<34} {verdict}", flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

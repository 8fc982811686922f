"""The invariants, held against the whole history of a simulated schedule."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chalicelib.audit.chain import verify
from chalicelib.audit.table import event_of
from chalicelib.aws.wire import item_from_wire
from chalicelib.candles import store as candle_store
from chalicelib.candles.candles import Candles, merged
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import coverages_in
from chalicelib.candles.summary import Summary
from chalicelib.core import times
from chalicelib.tasks import policy, states
from chalicelib.tasks.deduplicate import digest_of
from chalicelib.tasks.part import Tally, totals
from chalicelib.tasks.part_items import parts_in
from chalicelib.tasks.progress import Progress, number_of, progress_from
from chalicelib.work import units as work_units
from chalicelib.work import window
from chalicelib.work.messages import VERIFYING
from chalicelib.work.request import CollectionRequest
from tests.doubles.candles import append

if TYPE_CHECKING:
    from tests.simulation.world import World

Item = dict[str, Any]


class Violation(AssertionError):
    """An invariant is broken: which, and how."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def check_history(world: World) -> None:
    """Raise Violation for the first broken invariant."""
    changes = [_images(record) for record in world.records()]
    units = _units(world)
    metas: dict[str, list[tuple[Item, Item]]] = {}
    for old, new in changes:
        if (new or old)["sk"] == "META":
            metas.setdefault((new or old)["pk"], []).append((old, new))
    for pk, history in metas.items():
        _check_moves(pk, history)
        _check_deadlines(world, pk, history)
        _check_policy(world, pk, history)
        _check_audit(world, pk, changes)
    _check_progs(world, changes, units)
    _check_results(world, changes, units)
    _check_tallies(changes)
    _check_receipts(world, changes)
    _check_keys(world, metas)
    _check_once(world, changes)
    _check_limits(world, changes)
    _check_candles(world, changes, units)


def check_outstanding(world: World, task_id: str) -> Violation | None:
    """Never more than the window's units of a task are in its queue and not counted."""
    items = world.aws.dynamodb.tables["tasks"].items
    attempt = items[f"TASK#{task_id}", "META"]["attempt"]["N"]
    sent = set()
    for url in (world.settings.urgent_queue_url, world.settings.work_queue_url):
        for message in map(json.loads, world.aws.sqs.bodies(url)):
            if message["task"] == task_id and str(message["attempt"]) == attempt:
                sent |= {(message["prog"], unit[0]) for unit in message["units"]}
    counted = {
        (prog, int(unit))
        for prog in {prog for prog, _ in sent}
        for unit in items[f"TASK#{task_id}", f"PROG#{prog:03d}"].get("done", {"NS": ()})["NS"]
    }
    most = window.refill_below(world.settings.collectors) + work_units.PROG_UNITS
    if len(sent - counted) > most:
        return Violation("window", f"{task_id} has {len(sent - counted)} units in its queue")
    return None


def check_sent_again(world: World, entries: list[Item]) -> None:
    """Sweep is about to send messages again: those that the world has lost, or that still wait.

    It gives an item twice as long each time. Raises nothing: sweep would catch it.
    """
    s, items = world.settings, world.aws.dynamodb.tables["tasks"].items
    waiting = set()
    for url in (s.urgent_queue_url, s.work_queue_url, s.dead_letter_queue_url):
        waiting |= {unit for body in world.aws.sqs.bodies(url) for unit in _units_of(body)}
    for body in (entry["MessageBody"] for entry in entries):
        for task_id, attempt, number, unit in _units_of(body) - waiting - world.lost:
            prog = item_from_wire(items[f"TASK#{task_id}", f"PROG#{number:03d}"])
            is_open = (prog["attempt"], prog["state"]) == (attempt, "RUNNING")
            if is_open and unit not in prog.get("done", ()):
                world.violation = Violation("lost", f"unit {unit} was in no message any more")
        [of_item] = {each[:3] for each in _units_of(body)}
        before = world.sent_again.setdefault(of_item, [])
        since_ms = world.clock() - before[-1] if before else times.FOREVER_MS
        if since_ms < 30_000:
            continue  # the same sweep, or one beside it
        # Hidden by a delivery and by a delay. Clocks differ by some seconds.
        least_ms = (s.collect_timeout_seconds * 6 + 900) * 1000 * 2 ** len(before)
        if since_ms < least_ms:
            world.violation = Violation("again", f"{of_item} after {since_ms} of {least_ms} ms")
        before.append(world.clock())


def _units_of(body: str) -> set[tuple[str, int, int, int]]:
    """(task id, attempt, PROG item, unit) of what a message holds; none of a plan message."""
    message = json.loads(body)
    units = message.get("units", ())
    return {(message["task"], message["attempt"], message["prog"], unit[0]) for unit in units}


def _check_moves(pk: str, history: list[tuple[Item, Item]]) -> None:
    """States move along the table, attempts rise by retry alone, results of ended tasks stay."""
    for old, new in history:
        if not new:
            continue
        if not old:
            if new["state"] != states.PENDING:
                raise Violation("states", f"{pk} began as {new['state']}")
            continue
        before, after = old["state"], new["state"]
        if before != after and before not in states.MOVES[after]:
            raise Violation("states", f"{pk} went from {before} to {after}")
        retried = before in states.TERMINAL and after == states.PENDING
        if new["attempt"] != old["attempt"] + retried:
            raise Violation("attempt", f"{pk}: {old['attempt']} to {new['attempt']} in {after}")
        ended = before == after and before in states.TERMINAL and "result" in old
        if ended and (old["result"], old.get("error")) != (new.get("result"), new.get("error")):
            raise Violation("terminal", f"{pk}: the result of an ended task changed")
    last = history[-1][1] or history[-1][0]
    if last["state"] in states.ACTIVE:
        raise Violation("liveness", f"{pk} never ended: {last['state']}")
    if "result" not in last:
        raise Violation("liveness", f"{pk} is {last['state']} without a result")


def _check_policy(world: World, pk: str, history: list[tuple[Item, Item]]) -> None:
    """A policy opens no more attempts than it may, none early, and each that it must."""
    request = _requested(world, pk)
    assert request is not None, "a task that changed was stored"
    opened = [
        (old, new)
        for old, new in history
        if old and new and old["state"] in states.TERMINAL and new["state"] == states.PENDING
        if new["moved_by"] == states.BY_SYSTEM
    ]
    world.faults.seen["next_attempt"] += len(opened)
    if len(opened) > request.retries:
        raise Violation("policy", f"{pk}: {len(opened)} of {request.retries} retries")
    for old, new in opened:
        # A clock of ours may be some seconds ahead.
        if (
            old["state"] == states.CANCELLED
            or new["plan_sent_at"] + 10_000 < old["next_attempt_at"]
        ):
            raise Violation("policy", f"{pk} was opened early, or after a cancel")
    last = history[-1][1] or history[-1][0]
    if last["state"] == states.CANCELLED or not last.get("retries_left", 0):
        return
    progs = [item_from_wire(item) for item in world.aws.items("tasks") if item["pk"]["S"] == pk]
    reasons = {
        name.removeprefix("f_")
        for prog in progs
        if prog["sk"].startswith("PROG#") and prog["attempt"] == last["attempt"]
        for name in prog
        if name.startswith("f_")
    }
    if last["state"] == states.FAILED and "stopped_at" in last:
        reasons = {last["error"].partition(":")[0]}
    if not reasons <= policy.PERMANENT:
        raise Violation("policy", f"{pk} ended with {reasons}, and no attempt followed")


def _check_once(world: World, changes: list[tuple[Item, Item]]) -> None:
    """Nobody's start makes a task while one of the same request runs."""
    running: dict[str, str] = {}
    asked: dict[str, str] = {}
    for old, new in changes:
        if (new or old)["sk"] != "META":
            continue
        pk = (new or old)["pk"]
        if not new or new["state"] not in states.ACTIVE:
            running.pop(pk, None)
            continue
        if not old:
            request = _requested(world, pk)
            assert request is not None, "a task that was made was stored"
            asked[pk] = f"{new['owner']} {digest_of(request)}"
        same = asked[pk]
        if not old and new["source"] == states.BY_REQUEST and same in running.values():
            raise Violation("once", f"{pk} was made while another task did the same")
        if new["source"] == states.BY_REQUEST:
            running[pk] = same


def _check_deadlines(world: World, pk: str, history: list[tuple[Item, Item]]) -> None:
    """No attempt runs out of time before it had its own: while people paused it, it had none."""
    for old, new in history:
        if not str(new.get("error", "")).startswith("DEADLINE_EXCEEDED") or "error" in old:
            continue
        request = _requested(world, pk)
        if request is None or request.timeout_seconds is None:
            continue
        seconds = request.timeout_seconds
        began_ms, ended_ms = old["deadline_at"] - seconds * 1000, new["completed_at"]
        held_ms = sum(
            max(0, min(hold.until_ms, ended_ms) - max(hold.since_ms, began_ms))
            for hold in world.holds
        )
        # A clock of ours may be some seconds ahead.
        if ended_ms + 10_000 < old["deadline_at"] + held_ms:
            raise Violation("deadline", f"{pk} failed {ended_ms - began_ms} ms after its beginning")


def _check_progs(world: World, changes: list[tuple[Item, Item]], units: dict[str, Any]) -> None:
    """Within an attempt units are only added, and candles grow by just what was added."""
    for old, new in changes:
        if not new or not new["sk"].startswith("PROG#") or not old:
            continue
        if old["attempt"] > new["attempt"]:
            raise Violation("attempt", f"{new['sk']} went back")
        before, after = old.get("done", set()), new.get("done", set())
        if old["attempt"] != new["attempt"]:
            kept = before - _failed(old)
            # Closed for a newer attempt by its cancel, an item keeps everything it had.
            if after not in (kept, before):
                raise Violation("retry", f"{new['sk']} kept {after} of {before}")
            if new["state"] != "CLOSED" and any(name.startswith("t_") for name in new):
                raise Violation(
                    "trouble", f"{new['sk']} was opened with an older attempt's trouble"
                )
            continue
        if not before <= after:
            raise Violation("counting", f"{new['sk']} lost {before - after}")
        if old["state"] == "CLOSED" and after != before:
            raise Violation("fence", f"{new['sk']} counted after it was closed")
        fresh = after - before
        good = fresh - (_failed(new) - _failed(old))
        least, most = (
            sum(len(_opens(world, units, new, unit, always=always, asked=always)) for unit in good)
            for always in (True, False)
        )
        if not least <= new["candles"] - old["candles"] <= most:
            raise Violation(
                "counting",
                f"{new['sk']} counted {new['candles'] - old['candles']} candles for {good}, "
                f"not {least} to {most}",
            )
        _check_oddities(world, units, (old, new), good)
        waiting = {int(name.removeprefix("t_")) for name in new if name.startswith("t_")}
        if waiting & fresh:
            raise Violation("trouble", f"{new['sk']} counted {fresh}, and they still wait")


def _check_oddities(
    world: World, units: dict[str, Any], change: tuple[Item, Item], good: set[int]
) -> None:
    """What was counted as rejected is what the exchange broke, and nothing else was revised."""
    old, new = change
    named = {name: new[name] for name in new if name.startswith("r_") and name not in old}
    for number in good:
        symbol, timeframe, start, end, whole_ms = units[new["pk"], new["sk"]][number]
        broken = world.exchange.broken_opens(timeframe, start, end)
        rejected = named.pop(f"r_{number}", set())
        sure = {
            at for at in broken if at >= whole_ms and not may_miss(world, symbol, timeframe, at)
        }
        if not sure <= rejected <= broken:
            raise Violation("rejected", f"{new['sk']} names {rejected}, {broken} are broken")
    if named:
        raise Violation("rejected", f"{new['sk']} names {named} for {good}")
    fresh = [new[name] for name in new if name.startswith("r_") and name not in old]
    rejected, revised = (new[name] - old[name] for name in ("rejected", "revised"))
    if rejected != sum(map(len, fresh)):
        raise Violation("rejected", f"{new['sk']}: {rejected} rejected of {fresh}")
    if not 0 <= revised <= len(good) * len(world.exchange.revised_at):
        raise Violation("revised", f"{new['sk']}: {revised} revised")


def _check_results(world: World, changes: list[tuple[Item, Item]], units: dict[str, Any]) -> None:
    """A task that ended by itself has counted each unit once, and says what its items say."""
    progs: dict[str, dict[str, Item]] = {}
    for old, new in changes:
        if new and new["sk"].startswith("PROG#"):
            progs.setdefault(new["pk"], {})[new["sk"]] = new
        if not new or new["sk"] != "META" or not old or old["state"] == new["state"]:
            continue
        if new["state"] == states.COMPLETED or (
            new["state"] == states.FAILED and "units failed" in new.get("error", "")
        ):
            mine = progs.get(new["pk"], {}).values()
            counted = sum(len(prog.get("done", ())) for prog in mine)
            failed = sum(len(_failed(prog)) for prog in mine)
            result = new["result"]
            if not counted == result["units"] == new["total_units"]:
                raise Violation("counting", f"{new['pk']}: {counted} counted, {result}")
            if (result["failed"], result["succeeded"]) != (failed, counted - failed):
                raise Violation("counting", f"{new['pk']}: {failed} failed, {result}")
            for prog in mine:
                _check_reasons(world, units, prog)


def _check_tallies(changes: list[tuple[Item, Item]]) -> None:
    """After every write, parts and open PROG items tell what all PROG items together have counted,
    and the failures of the attempt that runs."""
    tasks: dict[str, dict[str, Item]] = {}
    for old, new in changes:
        item = new or old
        if item["sk"].partition("#")[0] not in ("META", "PART", "PROG"):
            continue
        held = tasks.setdefault(item["pk"], {})
        held[item["sk"]] = new
        task = held.get("META")
        if not task:
            continue
        progs = {
            number: progress_from(stored, number)
            for sk, stored in held.items()
            if (number := number_of(sk)) is not None
        }
        parts = parts_in([*held.values()])
        shown = [progs[at] for part in parts for at in part.open_numbers if at in progs]
        told = totals(task["attempt"], 0, Tally(parts, tuple(shown)))
        every = totals(task["attempt"], 0, Tally((), tuple(map(_whole, progs.values()))))
        if task["state"] != states.RUNNING:
            told["failed"] = every["failed"] = 0
        if told != every:
            raise Violation("tally", f"{item['pk']} tells {told} of {every}")


def _whole(prog: Progress) -> Progress:
    """A PROG item as if one attempt had brought all that it holds."""
    return prog._replace(kept=0, kept_candles=0, kept_revised=0, kept_rejected=0)


def _check_reasons(world: World, units: dict[str, Any], prog: Item) -> None:
    """A refused symbol fails with its reason; others fail only through trouble of their own."""
    for name, numbers in prog.items():
        if not name.startswith("f_"):
            continue
        for number in numbers:
            symbol, *window, _ = units[prog["pk"], prog["sk"]][number]
            refused = symbol in world.exchange.refused
            own = ["f_WORKER_GAVE_UP", "f_EXCHANGE_UNAVAILABLE"]
            # Where nothing else opens, or is served.
            if world.exchange.broken_opens(*window) or any(
                at[:2] == (symbol, window[0]) for at in world.spoiled
            ):
                own += ["f_EXCHANGE_UNUSABLE_ANSWER", "f_EXCHANGE_SCHEMA_DRIFT"]
            if (name == "f_INVALID_SYMBOL") != refused and name not in own:
                raise Violation("isolation", f"{symbol} failed with {name}")


def _check_receipts(world: World, changes: list[tuple[Item, Item]]) -> None:
    """After a cancel's receipt nothing is counted for its attempt, and it told the truth."""
    for task_id, at, succeeded, failed in world.receipts:
        attempt = None
        counted: dict[str, set[int]] = {}
        before: dict[str, Item] = {}
        for number, (old, new) in enumerate(changes):
            item = new or old
            if item["pk"] != f"TASK#{task_id}":
                continue
            if number < at:
                if item["sk"] == "META":
                    attempt = item["attempt"]
                elif item["sk"].startswith("PROG#"):
                    counted[item["sk"]] = item.get("done", set())
                    before[item["sk"]] = item
                continue
            ours = new and item["sk"].startswith("PROG#") and new["attempt"] == attempt
            # A late dispatch may open an item, which takes out what has failed, and sends nothing.
            if ours and new.get("done", set()) - counted.get(item["sk"], set()):
                raise Violation("cancel", f"{item['sk']} counted after the receipt")
        older = sum(len(_failed(prog)) for prog in before.values() if prog["attempt"] != attempt)
        if sum(map(len, counted.values())) - older != succeeded + failed:
            raise Violation("cancel", f"the receipt named {succeeded}+{failed}: {counted}")


def _check_keys(world: World, metas: dict[str, Any]) -> None:
    """One task per idempotency key; one for a schedule that fired twice."""
    for person in world.people:
        if not person.has_key:
            continue
        mine = [pk for pk in metas if _requested_symbols(world, pk) == set(person.symbols)]
        if len(mine) > 1:
            raise Violation("idempotency", f"one key made {len(mine)} tasks")
    scheduled = [pk for pk, history in metas.items() if history[0][1].get("source") == "schedule"]
    runs = {}  # schedule -> its runs; they never grow fewer
    for record in world.records():
        new = record["dynamodb"].get("NewImage", {})
        if "synced_rev" in new:
            runs[new["sk"]["S"]] = int(new["runs"]["N"])
    if len(scheduled) > sum(runs.values()):
        raise Violation("idempotency", f"the runs {runs} made {len(scheduled)} tasks")


def _check_audit(world: World, pk: str, changes: list[tuple[Item, Item]]) -> None:
    """The trail is one whole chain, and tells what happened: each thing once, in order."""
    trail = sorted(
        (item["sk"]["S"], event_of(item))
        for item in world.aws.items("audit")
        if item["pk"]["S"] == pk
    )
    events = [event for _, event in trail]
    faults = verify(f"task:{pk.removeprefix('TASK#')}", events)
    if faults:
        raise Violation("chain", f"{pk}: {faults}")
    happened = [
        entry for old, new in changes if (new or old)["pk"] == pk for entry in _entries(old, new)
    ]
    written = [_in_short(event) for event in events if event["action"].startswith("task.")]
    if written != happened:
        raise Violation("audit", f"{pk}: {written} for {happened}")


def _entries(old: Item, new: Item) -> list[tuple[Any, ...]]:
    """What the trail must hold of one change of a task's item, in short."""
    kind = (new or old)["sk"]
    if kind.startswith("PROG#") and new:
        same = old.get("attempt") == new["attempt"]
        fresh = len(_failed(new)) - (len(_failed(old)) if same else 0)
        return [("units failed", fresh)] if fresh > 0 else []
    if kind != "META":
        return []
    if not new:
        return [(old["state"], None)]
    if old.get("state") != new["state"]:
        planned = "plan_id" in new and "plan_id" not in old
        move = (old.get("state"), new["state"])
        return [("planned", new["total_units"]), move] if planned else [move]
    return [("stopped", new["result"])] if "stopped_at" in new and "stopped_at" not in old else []


def _in_short(event: Item) -> tuple[Any, ...]:
    match event["action"]:
        case "task.unit_failed":
            return "units failed", event["data"]["failed"]
        case "task.planned":
            return "planned", event["after"]["units"]
        case "task.stopped":
            told = ("stopped_at", "task")
            return "stopped", {k: v for k, v in event["data"].items() if k not in told}
    return event["before"], event["after"]


def _check_candles(world: World, changes: list[tuple[Item, Item]], units: dict[str, Any]) -> None:
    """Every counted unit's candles are stored once, as sent, and nothing else is."""
    stored: dict[tuple[str, str], Candles] = {}
    for (symbol, timeframe, _), candles, _ in stored_objects(world):
        _check_rows(world, symbol, timeframe, candles)
        whole = stored.get((symbol, timeframe), Candles())
        stored[symbol, timeframe] = merged(whole, candles).candles
    last: dict[tuple[str, str], Item] = {}
    verifying = _verifying(world)
    for _, new in changes:
        if new and new["sk"].startswith("PROG#") and new["pk"] not in verifying:
            last[new["pk"], new["sk"]] = new
    summaries = stored_summaries(world)
    for prog in last.values():
        for number in prog.get("done", set()) - _failed(prog):
            symbol, timeframe, start, end, *_ = units[prog["pk"], prog["sk"]][number]
            have = stored.get((symbol, timeframe), Candles()).between(start, end)
            always = _opens(world, units, prog, number, always=True)
            possible = _opens(world, units, prog, number, always=False)
            if not set(always) <= set(have.open_times) <= set(possible):
                raise Violation("storage", f"{symbol} {timeframe} lost candles of {start}")
            known = summaries.get((symbol, timeframe), Summary())
            for at in always:
                if known.uncovered(at, at + 1):
                    raise Violation("summary", f"{symbol} {timeframe} does not say it holds {at}")


def stored_objects(world: World) -> Iterator[tuple[tuple[str, str, str], Candles, Coverage]]:
    """((symbol, timeframe, key), candles, coverage) of every object."""
    for key, content in world.aws.s3.buckets["candles"].objects.items():
        if key.startswith("candles/"):
            parts = dict(part.split("=") for part in key.split("/")[1:-1])
            candles, metadata = candle_store.decode(content)
            coverage = Coverage.from_json(metadata["coverage"])
            yield (parts["symbol"], parts["timeframe"], key), candles, coverage


def stored_summaries(world: World) -> dict[tuple[str, str], Summary]:
    """(symbol, timeframe) -> what the Market table says."""
    return {
        (item["sk"]["S"], timeframe): known
        for item in world.aws.items("market")
        if item["pk"]["S"].startswith("COVER#")
        for timeframe, known in coverages_in(item_from_wire(item)).items()
    }


def _check_rows(world: World, symbol: str, timeframe: str, candles: Candles) -> None:
    opens = list(candles.open_times)
    if opens != sorted(set(opens)):
        raise Violation("storage", f"{symbol} {timeframe} is not sorted and unique")
    if not opens:
        return
    sent = Candles()
    answered = dict(zip(opens, candles.columns["answered_at"], strict=True))
    for at in world.exchange.closed_opens(timeframe, opens[0], opens[-1] + 1):
        if at in answered:
            row = world.exchange.row(symbol, timeframe, at, answered[at])
            append(sent, row, answered[at])
    if sent != candles:
        raise Violation("storage", f"{symbol} {timeframe} is not what the exchange sent")


def _opens(
    world: World,
    units: dict[str, Any],
    prog: Item,
    number: int,
    *,
    always: bool,
    asked: bool = False,
) -> list[int]:
    """Candles that must be held after a succeeded unit, or may be: its window has long closed.

    `asked`: those alone that it has asked for, whatever was held before.
    """
    symbol, timeframe, start, end, whole_ms = units[prog["pk"], prog["sk"]][number]
    start = max(start, whole_ms) if asked else start
    opens = world.exchange.closed_opens(timeframe, start, end)
    return [at for at in opens if not (always and may_miss(world, symbol, timeframe, at))]


def may_miss(world: World, symbol: str, timeframe: str, at: int) -> bool:
    """Whether the exchange has ever not served a candle, or not so that anybody could use it."""
    return at in world.exchange.unserved or (symbol, timeframe, at) in world.spoiled


def _check_limits(world: World, changes: list[tuple[Item, Item]]) -> None:
    """Owners never have more active tasks than they may, and each unit that is to run is counted
    once."""
    most_active = world.settings.owner_active_tasks
    most_units = world.settings.owner_units_per_day
    active: dict[str, set[str]] = {}
    planned: dict[str, int] = {}
    counted: dict[str, int] = {}
    for old, new in changes:
        if new and new["sk"] == "META":
            mine = active.setdefault(new["owner"], set())
            (mine.add if new["state"] in states.ACTIVE else mine.discard)(new["pk"])
            if most_active and len(mine) > most_active:
                raise Violation("quota", f"{new['owner']} has {len(mine)} active tasks")
            if (old.get("state"), new["state"]) == (states.PENDING, states.RUNNING):
                runs = new["total_units"] - new["kept_units"]
                planned[new["owner"]] = planned.get(new["owner"], 0) + runs
    for item in map(_image, world.aws.items("tasks")):
        if item["sk"].startswith("DAY#"):
            owner = item["pk"].removeprefix("OWNER#")
            counted[owner] = counted.get(owner, 0) + item["units"]
            if item["units"] > most_units:
                raise Violation("quota", f"{item['units']} units of {owner} on {item['sk']}")
    if most_units and counted != {owner: units for owner, units in planned.items() if units}:
        raise Violation("quota", f"{counted} units were counted, and {planned} planned")


def _images(record: Item) -> tuple[Item, Item]:
    change = record["dynamodb"]
    return _image(change.get("OldImage")), _image(change.get("NewImage"))


def _image(wire: Item | None) -> Item:
    return item_from_wire({k: v for k, v in (wire or {}).items() if "B" not in v})


def _failed(prog: Item) -> set[int]:
    return {unit for name, units in prog.items() if name.startswith("f_") for unit in units}


def _units(world: World) -> dict[tuple[str, str], list[list[Any]]]:
    """(pk, PROG key) -> units, of the plan that each task was run by.

    Those of a verification need to ask for nothing.
    """
    plans: dict[tuple[str, str], list[list[Any]]] = {}
    chosen: dict[str, str] = {}
    for record in world.records():
        image = record["dynamodb"].get("NewImage", {})
        sk = image.get("sk", {}).get("S", "")
        if sk == "META" and "plan_id" in image:
            chosen[image["pk"]["S"]] = image["plan_id"]["S"]
        elif sk.startswith("UNITS#"):
            packed = base64.b64decode(image["units"]["B"])
            plans[image["pk"]["S"], sk] = json.loads(zlib.decompress(packed))
    verifying = _verifying(world)
    return {
        (pk, f"PROG#{sk.rpartition('#')[2]}"): (
            [[*unit[:4], unit[3]] for unit in units] if pk in verifying else units
        )
        for (pk, sk), units in plans.items()
        if sk.split("#")[1] == chosen.get(pk)
    }


def _verifying(world: World) -> set[str]:
    """The tasks that read what others have collected."""
    return {
        record["dynamodb"]["Keys"]["pk"]["S"]
        for record in world.records()
        if "plan_id" in (image := record["dynamodb"].get("NewImage", {}))
        and CollectionRequest.unpack(base64.b64decode(image["request"]["B"])).fill in VERIFYING
    }


def _requested(world: World, pk: str) -> CollectionRequest | None:
    for record in world.records():
        image = record["dynamodb"].get("NewImage", {})
        if image.get("pk", {}).get("S") == pk and image["sk"]["S"] == "META":
            return CollectionRequest.unpack(base64.b64decode(image["request"]["B"]))
    return None


def _requested_symbols(world: World, pk: str) -> set[str]:
    request = _requested(world, pk)
    return set((request and request.symbols) or ())

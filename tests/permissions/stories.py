"""Stories of a quiet stack. Each belongs to the functions whose permissions it needs, and fails at
the step that lacks one. `STORIES` says which are played when a permission of a function is gone."""

from __future__ import annotations

import base64
import json
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import encode
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.gaps import NO_CANDLE, Gap
from chalicelib.candles.intervals import Interval
from chalicelib.candles.summary import Summary, seen
from chalicelib.core.times import DAY, iso, parse_time
from chalicelib.work.messages import PlanMessage
from chalicelib.work.request import CollectionRequest
from tests.permissions.quiet import HOUR_MS, MOST, OWNER, Quiet

Story = Callable[[Quiet], None]
JUNK = "no message of ours"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CRON = "cron(0 3 * * ? *)"
ASKED = {"symbols": ["ETHUSDT"], "timeframes": ["1h"]}


# --- tasks --------------------------------------------------------------------------------------


def a_collection(q: Quiet) -> None:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.must_deliver("WorkQueue", "Collect")
    assert q.ended(task_id, "completed")["candles"] == 24


def a_collection_into_a_new_file(q: Quiet) -> None:
    q.lose("candles/")
    a_collection(q)


def an_urgent_collection_from_what_is_stored(q: Quiet) -> None:
    q.forget("COVER#", "ETHUSDT")
    task_id = str(
        q.ask("POST", "/start", 202, {**ASKED, "priority": "high", "force": True})["task_id"]
    )
    q.must_deliver("PlanQueue", "Plan")
    q.must_deliver("UrgentQueue", "Collect")
    q.ended(task_id, "completed")


def a_refresh_of_the_symbols(q: Quiet) -> None:
    q.forget("CATALOGUE#")
    task_id = q.ask("POST", "/refresh-symbols", 202)["task_id"]
    q.must_deliver("PlanQueue", "Plan")
    q.ended(task_id, "completed")
    assert q.catalogue()


def a_low_task_that_gives_way(q: Quiet) -> None:
    q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.start(priority="low")
    q.must_deliver("PlanQueue", "Plan")
    assert q.waiting("PlanQueue") == 1
    assert q.waiting("WorkQueue") == 1


def messages_that_nobody_can_read(q: Quiet) -> None:
    for at, (queue, function) in enumerate(
        (("PlanQueue", "Plan"), ("WorkQueue", "Collect"), ("DeadLetterQueue", "Bury"))
    ):
        q.send(queue, JUNK)
        q.must_deliver(queue, function)
        assert q.waiting("UnreadableQueue") == at + 1


def _held_back(q: Quiet, priority: str, queue: str) -> None:
    q.start(priority=priority)
    q.must_deliver("PlanQueue", "Plan")
    answer = {"status": 429, "code": -1003, "msg": "held", "retry_after": 600}
    with q.exchange.fault(kind="status", match={"path": "/api/v3/klines"}, **answer):
        q.must_deliver(queue, "Collect")
    assert q.waiting(queue) == 1


def work_that_waits_for_the_exchange(q: Quiet) -> None:
    _held_back(q, "normal", "WorkQueue")


def urgent_work_that_waits_for_the_exchange(q: Quiet) -> None:
    _held_back(q, "high", "UrgentQueue")


def _comes_back(q: Quiet, priority: str, queue: str) -> None:
    q.start(priority=priority)
    q.must_deliver("PlanQueue", "Plan")
    broken = {"status": 500, "code": -1000, "msg": "broken"}
    with q.exchange.fault(kind="status", match={"path": "/api/v3/klines"}, **broken):
        assert q.deliver(queue, "Collect", failing=True)
    q.comes_back(queue)


def work_that_comes_back(q: Quiet) -> None:
    _comes_back(q, "normal", "WorkQueue")


def urgent_work_that_comes_back(q: Quiet) -> None:
    _comes_back(q, "high", "UrgentQueue")


def a_worker_that_asks_for_the_tasks_next_items(q: Quiet) -> None:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.change("TasksTable", f"TASK#{task_id}", q.prog(task_id)["sk"], refill_at=1000)
    q.must_deliver("WorkQueue", "Collect")
    assert q.waiting("PlanQueue") == 1


def _dead_letter(q: Quiet) -> str:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    [record] = q.take("WorkQueue")
    q.send("DeadLetterQueue", record["body"])
    return task_id


def a_dead_letter_that_ends_its_task(q: Quiet) -> None:
    task_id = _dead_letter(q)
    q.must_deliver("DeadLetterQueue", "Bury")
    assert q.ended(task_id, "failed")["failures"][0]["reason"] == "WORKER_GAVE_UP"


def a_dead_letter_that_ends_a_task_for_all_symbols(q: Quiet) -> None:
    task_id = _dead_letter(q)
    every = CollectionRequest(None, ("1h",), q.day()["start"], q.day()["end"])
    q.change("TasksTable", f"TASK#{task_id}", "META", request=every.pack())
    q.must_deliver("DeadLetterQueue", "Bury")
    q.ended(task_id, "failed")


def a_dead_letter_of_a_task_with_more_items(q: Quiet) -> None:
    task_id = _dead_letter(q)
    q.change("TasksTable", f"TASK#{task_id}", q.prog(task_id)["sk"], refill_at=1000)
    q.must_deliver("DeadLetterQueue", "Bury")
    assert q.waiting("PlanQueue") == 1


def a_plan_that_always_died(q: Quiet) -> None:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.send("DeadLetterQueue", PlanMessage(task_id, 1).encode())
    q.must_deliver("DeadLetterQueue", "Bury")
    q.ended(task_id, "failed")
    assert q.prog(task_id)["state"] != "open", "its items are still open"


def a_sweep_of_a_task_whose_plan_was_lost(q: Quiet) -> None:
    task_id = q.start()
    q.take("PlanQueue")
    q.change(
        "TasksTable", f"TASK#{task_id}", "META", plan_sent_at=int(time.time() * 1000) - HOUR_MS
    )
    assert q.invoke("Sweep", {}) == {"seen": 1, "failed": 0}
    assert q.waiting("PlanQueue") == 1


def _sweep_of_lost_messages(q: Quiet, priority: str, queue: str) -> None:
    task_id = q.start(priority=priority)
    q.must_deliver("PlanQueue", "Plan")
    assert q.take(queue)
    long_ago = int(time.time() * 1000) - 2 * HOUR_MS
    q.change(
        "TasksTable", f"TASK#{task_id}", q.prog(task_id)["sk"], sent_at=long_ago, last_at=long_ago
    )
    assert q.invoke("Sweep", {})["failed"] == 0
    assert q.waiting(queue) == 1


def a_sweep_of_lost_messages(q: Quiet) -> None:
    _sweep_of_lost_messages(q, "normal", "WorkQueue")


def a_sweep_of_lost_urgent_messages(q: Quiet) -> None:
    _sweep_of_lost_messages(q, "high", "UrgentQueue")


def a_sweep_of_a_task_that_nobody_ended(q: Quiet) -> None:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.change("TasksTable", f"TASK#{task_id}", q.prog(task_id)["sk"], done={0})
    assert q.invoke("Sweep", {}) == {"seen": 1, "failed": 0}
    assert q.ask("GET", f"/task/{task_id}", 200)["completed_at"]


def _due_without_a_place(q: Quiet) -> str:
    """A failed task whose next attempt is due, while all places of its owner are taken."""
    task_id = q.start(retries=1, retry_backoff_seconds=1)
    q.send("DeadLetterQueue", q.take("PlanQueue")[0]["body"])
    q.must_deliver("DeadLetterQueue", "Bury")
    assert q.ended(task_id, "failed")["next_attempt_at"]
    _take_all_places(q, "TasksTable")
    q.change("TasksTable", f"TASK#{task_id}", "META", next_attempt_at=1)
    return task_id


def a_sweep_that_opens_the_next_attempt(q: Quiet) -> None:
    task_id = _due_without_a_place(q)
    assert q.invoke("Sweep", {})["failed"] == 0
    q.ended(task_id, "pending")


def the_next_attempt_opens_by_its_message(q: Quiet) -> None:
    task_id = _due_without_a_place(q)
    q.send("PlanQueue", PlanMessage(task_id, 1).encode())
    q.must_deliver("PlanQueue", "Plan")
    assert q.ask("GET", f"/task/{task_id}", 200)["attempt"] == 2


def prices_and_symbols_of_the_minute(q: Quiet) -> None:
    q.forget("CATALOGUE#")
    assert q.invoke("RefreshPrices", {})["prices"] > 0
    assert q.catalogue()


# --- owners, their keys and limits --------------------------------------------------------------


def a_key_and_its_life(q: Quiet) -> None:
    made = q.ask("POST", "/keys", 201, {"owner": "research", "scopes": ["read"]})
    path = f"/keys/{made['key_id']}"
    assert made["key_id"] in [key["key_id"] for key in q.ask("GET", "/keys", 200)["keys"]]
    assert q.ask("POST", f"{path}/rotate", 200)["key"] != made["key"]
    assert q.ask("DELETE", path, 200)["status"] == "revoked"
    [used] = [item for item in q.items("KeysTable") if item["owner"] == OWNER]
    assert used["last_used_at"], "nobody noted that it was used"


def _places(q: Quiet, table: str) -> list[str]:
    """The places that the owner's tasks or connections hold."""
    return [
        place
        for item in q.items(table)
        if (item["pk"], item["sk"]) == (f"OWNER#{OWNER}", "PLACES")
        for place in item.get("places", ())
    ]


def _take_all_places(q: Quiet, table: str) -> None:
    """Every place is taken, by what is gone since."""
    places = {f"{uuid.uuid4()}#1#{1_000 + at}" for at in range(MOST)}
    q.put(table, {"pk": f"OWNER#{OWNER}", "sk": "PLACES", "places": places})


def a_pause_and_its_end(q: Quiet) -> None:
    assert q.ask("POST", "/pause", 200, {"reason": "a story"})["paused"] is True
    assert q.ask("POST", "/resume", 200)["message"] == "Resumed"


# --- the API ------------------------------------------------------------------------------------


def a_key_that_is_used_twice_and_one_that_is_freed(q: Quiet) -> None:
    body, key = q.day(), str(uuid.uuid4())
    first = q.ask("POST", "/start", 202, body, key)
    assert q.ask("POST", "/start", 202, body, key) == first
    key = str(uuid.uuid4())
    q.ask("POST", "/start", 400, {**body, "symbols": ["NOSUCHUSDT"]}, key)
    q.ask("POST", "/start", 202, body, key)


def a_cancel_and_a_retry(q: Quiet) -> None:
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    q.ask("POST", f"/task/{task_id}/cancel", 202)
    q.ask("POST", f"/task/{task_id}/retry", 202)
    q.must_deliver("PlanQueue", "Plan")
    assert q.ask("GET", f"/task/{task_id}", 200)["status"] == "running"


def a_symbol_that_is_not_known_yet(q: Quiet) -> None:
    q.ask("POST", "/start", 400, {**q.day(), "symbols": [f"N{uuid.uuid4().hex[:6].upper()}USDT"]})
    assert q.waiting("PlanQueue") == 1, "nobody looks for it"


def every_list_and_measure(q: Quiet) -> None:
    task_id = q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    assert [task["task_id"] for task in q.ask("GET", "/tasks/active", 200)["tasks"]] == [task_id]
    for path in ("/tasks", "/tasks?status=pending"):
        assert task_id in [task["task_id"] for task in q.ask("GET", path, 200)["tasks"]]
    q.ask("GET", "/tasks/stats", 200)
    q.ask("GET", "/status", 200)
    q.ask("GET", "/metrics", 200)
    q.ask("GET", "/latest-prices?symbols=BTCUSDT", 200)
    assert q.ask("GET", f"/audit?task_id={task_id}", 200)["events"]
    assert q.ask("GET", "/audit", 200)["events"]


def stored_candles_are_read(q: Quiet) -> None:
    asked = "symbol=ETHUSDT&timeframe=1d"
    exchange = q.ask("GET", "/status", 200)["exchange"]
    key = f"candles/exchange={exchange}/timeframe=1d/symbol=ETHUSDT/all.parquet"
    q.client("s3").put_object(Bucket=q.cloud.bucket, Key=key, Body=encode(Candles(), {}))
    assert q.ask("GET", f"/candles?{asked}", 200)["message"] is None
    assert [each["rows"] for each in q.ask("GET", f"/candles/files?{asked}", 200)["files"]] == [0]


def _gap(q: Quiet) -> tuple[str, dict[str, Any]]:
    """A symbol's three days of which nothing came; (key of the object, the range)."""
    exchange = q.ask("GET", "/status", 200)["exchange"]
    start_ms = parse_time("2026-03-01")
    end_ms = start_ms + 3 * DAY
    coverage = Coverage(
        (Interval(start_ms, end_ms),), None, (Gap(start_ms, end_ms, NO_CANDLE, 1, 1, 1),)
    )
    key = f"candles/exchange={exchange}/timeframe=1d/symbol=ETHUSDT/all.parquet"
    content = encode(Candles(), {"coverage": coverage.to_json(), "trades": "0"})
    q.client("s3").put_object(Bucket=q.cloud.bucket, Key=key, Body=content)
    summary = Summary().with_object(seen("1d", start_ms, Candles(), coverage))
    item = {"pk": f"COVER#{exchange}", "sk": "ETHUSDT", "rev": 1}
    q.put("MarketTable", {**item, "tf_1d": summary.packed("1d")})
    return key, {"start": iso(start_ms), "end": iso(end_ms)}


def gaps_are_explained(q: Quiet) -> None:
    key, _ = _gap(q)
    assert q.ask("GET", "/coverage?symbols=ETHUSDT", 200)["coverage"]
    gaps = "/coverage/gaps?symbol=ETHUSDT&timeframe=1d&end=2026-03-04"
    assert [gap["reason"] for gap in q.ask("GET", gaps, 200)["gaps"]] == ["unexplained"]
    q.client("s3").delete_object(Bucket=q.cloud.bucket, Key=key)
    assert [gap["reason"] for gap in q.ask("GET", gaps, 200)["gaps"]] == ["not_collected"]


def gaps_are_filled(q: Quiet) -> None:
    _, around = _gap(q)
    body = {"symbols": ["ETHUSDT"], "timeframes": ["1d"], **around}
    task_id = str(q.ask("POST", "/coverage/fill", 202, body)["task_id"])
    q.must_deliver("PlanQueue", "Plan")
    q.must_deliver("WorkQueue", "Collect")
    assert q.ended(task_id, "completed")["candles"] == 3


def a_verification(q: Quiet) -> None:
    _gap(q)
    body = {"symbols": ["ETHUSDT"], "timeframes": ["1d"]}
    task_id = str(q.ask("POST", "/coverage/verify", 202, body)["task_id"])
    q.must_deliver("PlanQueue", "Plan")
    q.must_deliver("WorkQueue", "Collect")
    assert q.ended(task_id, "completed")["failures"] == []


def a_task_that_is_gone(q: Quiet) -> None:
    task_id = q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    q.change("TasksTable", f"TASK#{task_id}", "META", ttl=1)
    q.ask("GET", f"/task/{task_id}", 410)


# --- schedules ----------------------------------------------------------------------------------


def _scheduled(q: Quiet, **more: Any) -> str:
    body = {"expression": CRON, "request": ASKED, **more}
    return str(q.ask("POST", "/schedules", 201, body)["schedule_id"])


def _schedule_item(q: Quiet, schedule_id: str) -> dict[str, Any]:
    [item] = [
        item
        for item in q.items("TasksTable")
        if item.get("schedule_id") == schedule_id and "synced_rev" in item
    ]
    return item


def a_schedule_and_its_life(q: Quiet) -> None:
    hook = {"url": f"http://127.0.0.1:{q.receiver.port}/in", "secret": SECRET}
    schedule_id = _scheduled(q, request={**ASKED, "webhook": hook})
    path = f"/schedules/{schedule_id}"
    assert q.ask("GET", path, 200)["in_sync"] is True
    assert schedule_id in json.dumps(q.ask("GET", "/schedules", 200))
    q.ask("POST", f"{path}/run", 202)
    assert q.ask("PATCH", path, 200, {"enabled": False})["in_sync"] is True
    q.ask("PATCH", path, 200, {"request": ASKED})
    q.ask("DELETE", path, 200)
    schedules = q.client("scheduler").list_schedules()["Schedules"]
    assert schedule_id not in [one["Name"] for one in schedules]


def a_firing(q: Quiet) -> None:
    schedule_id = _scheduled(q)
    item = _schedule_item(q, schedule_id)
    event = {
        "owner": OWNER,
        "schedule_id": schedule_id,
        "rev": int(item["rev"]),
        "scheduled_at": iso(int(item["next_run_at"])),
    }
    task_id = q.invoke("RunSchedule", event)["task_id"]
    assert q.waiting("PlanQueue") == 1
    q.ended(task_id, "pending")


def a_firing_in_the_place_of_a_task_that_is_gone(q: Quiet) -> None:
    _take_all_places(q, "TasksTable")
    a_firing(q)


def _watch(q: Quiet) -> None:
    assert q.invoke("WatchSchedules", {})["failed"] == 0


def a_schedule_that_eventbridge_never_heard_of(q: Quiet) -> None:
    schedule_id = _scheduled(q)
    item = _schedule_item(q, schedule_id)
    group = q.cloud.outputs["ScheduleGroup"]
    scheduler = q.client("scheduler")
    scheduler.delete_schedule(Name=schedule_id, GroupName=group)
    q.put("TasksTable", {**item, "synced_rev": 0})
    _watch(q)
    scheduler.get_schedule(Name=schedule_id, GroupName=group)
    q.put("TasksTable", {**_schedule_item(q, schedule_id), "synced_rev": 1, "rev": 2})
    _watch(q)
    assert _schedule_item(q, schedule_id)["synced_rev"] == 2
    q.put("TasksTable", {**_schedule_item(q, schedule_id), "removed": True, "rev": 3})
    _watch(q)
    _watch(q)
    assert schedule_id not in [one["Name"] for one in scheduler.list_schedules()["Schedules"]]
    assert not [item for item in q.items("TasksTable") if item.get("schedule_id") == schedule_id]


def runs_that_never_came(q: Quiet) -> None:
    schedule_id = _scheduled(q, catch_up=True)
    last = q.ask("POST", f"/schedules/{schedule_id}/run", 202)["task_id"]
    q.ask("POST", f"/task/{last}/cancel", 202)
    q.take("PlanQueue")
    item = _schedule_item(q, schedule_id)
    q.put("TasksTable", {**item, "accounted_until": int(time.time() * 1000) - 48 * HOUR_MS})
    _watch(q)
    assert q.waiting("PlanQueue") == 1
    assert q.ask("GET", f"/schedules/{schedule_id}", 200)["runs"]["missed"] >= 1


def a_promise_that_is_broken(q: Quiet) -> None:
    schedule_id = _scheduled(q, freshness={"max_lag_seconds": 1})
    _watch(q)
    _watch(q)
    assert q.ask("GET", f"/schedules/{schedule_id}", 200)["freshness"]["measured_at"]


# --- streams, events, webhooks ------------------------------------------------------------------


def _hooked(q: Quiet) -> str:
    url = f"http://127.0.0.1:{q.receiver.port}/in"
    return q.start(webhook={"url": url, "secret": SECRET, "events": ["task.cancelled"]})


def what_happened_to_a_task_is_written_published_and_announced(q: Quiet) -> None:
    with _listening(q, "tasks"):
        task_id = _hooked(q)
        q.ask("POST", f"/task/{task_id}/cancel", 202)
        records = q.hand_on("TasksTable", "OnTaskChange")
        assert q.waiting("WebhookQueue") == 1
        assert q.waiting("PushQueue") > 0
    assert q.ask("GET", f"/audit?task_id={task_id}", 200)["events"]
    assert q.of_market("TOTALS#")[0]["task.cancelled"] > 0
    # Brought once more: the totals look whether they have counted it.
    q.invoke("OnTaskChange", {"Records": records})


def a_unit_that_failed_is_named(q: Quiet) -> None:
    task_id = _dead_letter(q)
    q.must_deliver("DeadLetterQueue", "Bury")
    q.hand_on("TasksTable", "OnTaskChange")
    events = q.ask("GET", f"/audit?task_id={task_id}", 200)["events"]
    [failed] = [event for event in events if event["action"] == "task.unit_failed"]
    assert failed["data"]["units"][0]["symbol"] == "BTCUSDT"


def _broken(records: list[dict[str, Any]]) -> dict[str, Any]:
    """A record that our code cannot handle."""
    record = json.loads(json.dumps(records[0]))
    record["dynamodb"]["NewImage"] = {"pk": {"no type": "x"}}
    return dict(record)


def a_record_that_breaks_our_code_is_set_aside(q: Quiet) -> None:
    q.start()
    records = q.changes("TasksTable")
    q.invoke("OnTaskChange", {"Records": [_broken(records)]})
    assert q.waiting("StreamFailureQueue") == 1


def a_record_of_the_market_that_breaks_our_code_is_set_aside(q: Quiet) -> None:
    a_collection(q)
    records = q.changes("MarketTable")
    q.invoke("OnMarketChange", {"Records": [_broken(records)]})
    assert q.waiting("StreamFailureQueue") == 1


def what_was_set_aside_is_replayed(q: Quiet) -> None:
    task_id = _hooked(q)
    q.ask("POST", f"/task/{task_id}/cancel", 202)
    records = q.changes("TasksTable")
    for _ in range(2):  # the second time, all is known
        for record in records:
            body = {"v": 1, "source": "tasks", "error": "was one", "record": record}
            q.send("StreamFailureQueue", json.dumps(body))
        replayed = q.invoke("ReplayChanges", {})
        assert (replayed["replayed"], replayed["left"]) == (len(records), 0)
    assert q.waiting("WebhookQueue") >= 1


def a_failed_unit_that_was_set_aside_is_replayed(q: Quiet) -> None:
    task_id = _dead_letter(q)
    q.must_deliver("DeadLetterQueue", "Bury")
    for record in q.changes("TasksTable"):
        body = {"v": 1, "source": "tasks", "error": "was one", "record": record}
        q.send("StreamFailureQueue", json.dumps(body))
    assert q.invoke("ReplayChanges", {})["left"] == 0
    assert q.ask("GET", f"/audit?task_id={task_id}", 200)["events"]


def what_happened_in_the_market_is_written_published_and_announced(q: Quiet) -> None:
    with _listening(q, "candles:BTCUSDT:1h"):
        a_collection(q)
        q.forget("CATALOGUE#")
        assert q.invoke("RefreshPrices", {})["prices"] > 0
        q.hand_on("MarketTable", "OnMarketChange")
        assert q.waiting("PushQueue") > 0
    actions = [event["action"] for event in q.ask("GET", "/audit?exchange=local", 200)["events"]]
    assert "symbols.changed" in actions


def _symbol_that_stops_trading(q: Quiet) -> dict[str, Any]:
    """The Market stream's record of a refresh after which BTCUSDT is not listed any more."""
    a_collection(q)
    q.forget("CATALOGUE#")
    q.invoke("RefreshPrices", {})
    [record] = [
        record
        for record in q.changes("MarketTable")
        if record["dynamodb"].get("NewImage", {}).get("pk", {}).get("S", "").startswith("CATALOGUE")
    ]
    image = record["dynamodb"]["NewImage"]
    symbols = json.loads(zlib.decompress(base64.b64decode(image["symbols"]["B"])))
    symbols.pop("BTCUSDT")
    packed = base64.b64encode(zlib.compress(json.dumps(symbols).encode())).decode()
    record["dynamodb"]["OldImage"] = image
    record["dynamodb"]["NewImage"] = {
        **image,
        "symbols": {"B": packed},
        "refreshed_at": {"N": str(time.time_ns() // 1_000_000)},
    }
    return record


def a_symbol_that_stops_trading(q: Quiet) -> None:
    record = _symbol_that_stops_trading(q)
    for times in (1, 2):  # a record may come twice; then its task is there
        q.invoke("OnMarketChange", {"Records": [record]})
        assert q.waiting("PlanQueue") == times


def a_symbol_that_stopped_trading_is_replayed(q: Quiet) -> None:
    record = _symbol_that_stops_trading(q)
    body = {"v": 1, "source": "market", "error": "was one", "record": record}
    q.send("StreamFailureQueue", json.dumps(body))
    assert q.invoke("ReplayChanges", {})["left"] == 0
    assert q.waiting("PlanQueue") == 1


def a_day_of_the_trail_is_exported(q: Quiet) -> None:
    q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    q.lose("audit/")
    [event, *_] = [item for item in q.items("AuditTable") if "sk_time" in item]
    q.put("AuditTable", {**event, "pk": f"TASK#{uuid.uuid4()}", "day": yesterday})
    exported = q.invoke("ExportAudit", {"day": yesterday})["exported"]
    assert exported, "nothing was exported"
    q.invoke("ExportAudit", {"day": yesterday})


def _delivery(q: Quiet) -> None:
    task_id = _hooked(q)
    q.ask("POST", f"/task/{task_id}/cancel", 202)
    q.hand_on("TasksTable", "OnTaskChange")


def a_webhook_is_delivered(q: Quiet) -> None:
    _delivery(q)
    q.must_deliver("WebhookQueue", "DeliverWebhook")
    assert len(q.receiver.seen) == 1


def a_webhook_is_delivered_later(q: Quiet) -> None:
    _delivery(q)
    q.receiver.answers = [(500, {})]
    assert q.deliver("WebhookQueue", "DeliverWebhook", failing=True)
    q.comes_back("WebhookQueue")


def a_webhook_that_refuses(q: Quiet) -> None:
    _delivery(q)
    q.receiver.answers = [(410, {})]
    q.must_deliver("WebhookQueue", "DeliverWebhook")
    assert q.waiting("WebhookDeadLetterQueue") == 1


def a_webhook_that_waits_for_the_next_minute(q: Quiet) -> None:
    _delivery(q)
    # The minute after this one: this one may end before the function looks.
    sent = {"minute": int(time.time()) // 60 + 1, "sent": MOST}
    q.put("TasksTable", {"pk": f"OWNER#{OWNER}", "sk": "WEBHOOKS", **sent})
    q.must_deliver("WebhookQueue", "DeliverWebhook")
    assert not q.receiver.seen
    assert q.waiting("WebhookQueue") == 1


# --- WebSockets ---------------------------------------------------------------------------------


@contextmanager
def _connected(q: Quiet) -> Iterator[ClientConnection]:
    ticket = q.ask("POST", "/ws-ticket", 201)["ticket"]
    with connect(f"{q.cloud.ws_url}?ticket={ticket}", proxy=None, close_timeout=2) as socket:
        yield socket


def _heard(q: Quiet, socket: ClientConnection) -> Any:
    """The next message that a client gets."""

    def receive() -> Any:
        try:
            return json.loads(socket.recv(timeout=0.5))
        except TimeoutError:
            return None

    return q.wait_for(receive, "a client hears nothing")


@contextmanager
def _listening(q: Quiet, *topics: str) -> Iterator[ClientConnection]:
    """A client that has got the snapshots of its topics."""
    with _connected(q) as socket:
        socket.send(json.dumps({"action": "subscribe", "topics": list(topics)}))
        left = set(topics)
        while left:
            message = _heard(q, socket)
            assert message["type"] != "error", message
            if message["type"] == "snapshot":
                left.discard(message["topic"])
        yield socket


def a_client_that_listens_to_everything(q: Quiet) -> None:
    a_collection(q)
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    topics = (f"task:{task_id}", "tasks", "prices:BTCUSDT", "candles:BTCUSDT:1h")
    with _listening(q, *topics) as socket:
        socket.send(json.dumps({"action": "unsubscribe", "topics": list(topics)}))
        assert _heard(q, socket)["type"] == "unsubscribed"
        assert q.ask("GET", "/status", 200)["limits"]["connections"]["used"] == 1
    _until_gone(q)


def a_client_that_hears_of_its_own_tasks_alone(q: Quiet) -> None:
    made = q.ask("POST", "/keys", 201, {"owner": OWNER, "scopes": ["read"]})
    q.http.headers["Authorization"] = f"Bearer {made['key']}"
    with _listening(q, "tasks"):
        pass
    _until_gone(q)


def a_client_in_the_place_of_one_that_is_gone(q: Quiet) -> None:
    _take_all_places(q, "ConnectionsTable")
    with _listening(q, "tasks"):
        pass


def _gone_client(q: Quiet) -> str:
    """A connection that listens to `tasks`, of a client that is not there; its id."""
    connection, now_s = f"gone-{uuid.uuid4().hex[:8]}", int(time.time())
    row = {"owner": OWNER, "connected_at": now_s * 1000, "window": 0, "messages": 0}
    row |= {"pk": f"CONN#{connection}", "sk": "CONN", "topics": {"tasks"}, "ttl": now_s + 600}
    q.put("ConnectionsTable", row)
    listener = {"pk": "TOPIC#tasks", "sk": f"CONN#{connection}", "ttl": now_s + 600}
    q.put("ConnectionsTable", listener)
    places = {f"{connection}#1#{now_s * 1000}"}
    q.put("ConnectionsTable", {"pk": f"OWNER#{OWNER}", "sk": "PLACES", "places": places})
    return connection


def _of_socket(connection: str, route: str, kind: str) -> dict[str, Any]:
    """What API Gateway hands to the function of a route."""
    context = {"connectionId": connection, "routeKey": route, "eventType": kind}
    context |= {"domainName": "sockets.test", "apiId": "sockets", "stage": "api"}
    return {"requestContext": context, "body": json.dumps({"action": "ping"})}


def _is_forgotten(q: Quiet, connection: str) -> bool:
    rows = q.items("ConnectionsTable")
    named = [row for row in rows if connection in row["pk"] + row["sk"]]
    return not named and not _places(q, "ConnectionsTable")


def a_message_whose_sender_has_gone(q: Quiet) -> None:
    connection = _gone_client(q)
    q.invoke("WebsocketMessage", _of_socket(connection, "$default", "MESSAGE"))
    assert _is_forgotten(q, connection)


def a_client_that_leaves_while_it_listens(q: Quiet) -> None:
    connection = _gone_client(q)
    q.invoke("WebsocketDisconnect", _of_socket(connection, "$disconnect", "DISCONNECT"))
    assert _is_forgotten(q, connection)


def a_client_that_asks_for_a_candle_whose_file_is_gone(q: Quiet) -> None:
    a_collection(q)
    q.lose("candles/")
    with _listening(q, "candles:BTCUSDT:1h"):
        pass


def a_client_that_asks_for_a_task_that_is_gone(q: Quiet) -> None:
    task_id = q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    q.delete("TasksTable", {"pk": f"TASK#{task_id}", "sk": "META"})
    with _connected(q) as socket:
        socket.send(json.dumps({"action": "subscribe", "topics": [f"task:{task_id}"]}))
        answer = _heard(q, socket)
    assert answer["reason"] == "TASK_EXPIRED", answer


def _until_gone(q: Quiet) -> None:
    q.wait_for(lambda: q.connections() == 0 or None, "a closed connection is still listed")


def updates_reach_who_listens(q: Quiet) -> None:
    a_collection(q)
    task_id = q.start()
    q.must_deliver("PlanQueue", "Plan")
    topics = (f"task:{task_id}", "candles:BTCUSDT:1h")
    with _listening(q, *topics) as socket:
        q.must_deliver("WorkQueue", "Collect")
        q.hand_on("TasksTable", "OnTaskChange")
        q.hand_on("MarketTable", "OnMarketChange")
        heard = set()
        while q.deliver("PushQueue", "PushUpdates"):
            pass
        while heard != set(topics):
            message = _heard(q, socket)
            if message["type"] == "update":
                heard.add(message["topic"])


def an_update_of_a_candle_whose_file_is_gone(q: Quiet) -> None:
    with _listening(q, "candles:BTCUSDT:1h") as socket:
        a_collection(q)
        q.hand_on("MarketTable", "OnMarketChange")
        q.lose("candles/")
        q.must_deliver("PushQueue", "PushUpdates")
        assert _heard(q, socket)["candle"] is None


def progress_reaches_who_listens(q: Quiet) -> None:
    task_id = q.start(timeframes=["1h", "4h"])
    q.must_deliver("PlanQueue", "Plan")
    with _listening(q, f"task:{task_id}") as socket:
        q.changes("TasksTable")
        q.change("TasksTable", f"TASK#{task_id}", "META", message="moved")
        q.change("TasksTable", f"TASK#{task_id}", q.prog(task_id)["sk"], last_at=1)
        q.hand_on("TasksTable", "OnTaskChange")
        while q.deliver("PushQueue", "PushUpdates"):
            pass
        assert _heard(q, socket)["type"] == "update"


def an_update_for_a_client_that_is_gone(q: Quiet) -> None:
    with _listening(q, "tasks"):
        rows = [row for row in q.items("ConnectionsTable") if row["sk"] == "CONN"]
    _until_gone(q)
    # As where $disconnect never came.
    for row in rows:
        gone = "gone-" + uuid.uuid4().hex[:8]
        ttl = int(time.time()) + 3600
        q.put("ConnectionsTable", {**row, "pk": f"CONN#{gone}", "topics": {"tasks"}, "ttl": ttl})
        listener = {"pk": "TOPIC#tasks", "sk": f"CONN#{gone}", "ttl": ttl}
        q.put("ConnectionsTable", listener)
    q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    q.must_deliver("PushQueue", "PushUpdates")
    assert not [row for row in q.items("ConnectionsTable") if row["sk"].startswith("CONN")]
    # Nobody is left: the next update takes the topic off the list.
    q.start()
    q.hand_on("TasksTable", "OnTaskChange")
    q.must_deliver("PushQueue", "PushUpdates")
    listened = [row for row in q.items("ConnectionsTable") if row["pk"].startswith("LISTENED#")]
    assert "tasks" not in [row["sk"] for row in listened]


def an_update_that_is_put_off(q: Quiet) -> None:
    """What it would say cannot be read; it comes back after a second."""
    with _listening(q, "tasks"):
        q.start()
        q.hand_on("TasksTable", "OnTaskChange")
        table = q.policy_resource("push_updates", "ConnectionsTable")
        with q.without("push_updates", "dynamodb:UpdateItem", table):
            assert q.deliver("PushQueue", "PushUpdates", failing=True)
        q.comes_back("PushQueue")


_COLLECTING: tuple[Story, ...] = (a_collection, an_urgent_collection_from_what_is_stored)
STORIES: dict[str, tuple[Story, ...]] = {
    "api_handler": (
        a_key_that_is_used_twice_and_one_that_is_freed,
        a_cancel_and_a_retry,
        every_list_and_measure,
        stored_candles_are_read,
        gaps_are_explained,
        a_task_that_is_gone,
        a_schedule_and_its_life,
        a_client_that_listens_to_everything,
        a_symbol_that_is_not_known_yet,
        a_refresh_of_the_symbols,
        a_key_and_its_life,
        a_pause_and_its_end,
    ),
    "plan": (
        *_COLLECTING,
        a_refresh_of_the_symbols,
        a_verification,
        a_low_task_that_gives_way,
        a_cancel_and_a_retry,
        the_next_attempt_opens_by_its_message,
        messages_that_nobody_can_read,
    ),
    "collect": (
        *_COLLECTING,
        a_collection_into_a_new_file,
        gaps_are_filled,
        a_worker_that_asks_for_the_tasks_next_items,
        messages_that_nobody_can_read,
        work_that_waits_for_the_exchange,
        urgent_work_that_waits_for_the_exchange,
        work_that_comes_back,
        urgent_work_that_comes_back,
    ),
    "bury": (
        a_dead_letter_that_ends_its_task,
        a_dead_letter_that_ends_a_task_for_all_symbols,
        a_dead_letter_of_a_task_with_more_items,
        a_plan_that_always_died,
        messages_that_nobody_can_read,
    ),
    "sweep": (
        a_sweep_of_a_task_whose_plan_was_lost,
        a_sweep_of_lost_messages,
        a_sweep_of_lost_urgent_messages,
        a_sweep_of_a_task_that_nobody_ended,
        a_sweep_that_opens_the_next_attempt,
    ),
    "refresh_prices": (prices_and_symbols_of_the_minute,),
    "run_schedule": (a_firing, a_firing_in_the_place_of_a_task_that_is_gone),
    "watch_schedules": (
        a_schedule_that_eventbridge_never_heard_of,
        runs_that_never_came,
        a_promise_that_is_broken,
    ),
    "on_task_change": (
        what_happened_to_a_task_is_written_published_and_announced,
        a_unit_that_failed_is_named,
        a_record_that_breaks_our_code_is_set_aside,
    ),
    "on_market_change": (
        what_happened_in_the_market_is_written_published_and_announced,
        a_record_of_the_market_that_breaks_our_code_is_set_aside,
        a_symbol_that_stops_trading,
    ),
    "replay_changes": (
        what_was_set_aside_is_replayed,
        a_failed_unit_that_was_set_aside_is_replayed,
        a_symbol_that_stopped_trading_is_replayed,
    ),
    "export_audit": (a_day_of_the_trail_is_exported,),
    "deliver_webhook": (
        a_webhook_is_delivered,
        a_webhook_is_delivered_later,
        a_webhook_that_refuses,
        a_webhook_that_waits_for_the_next_minute,
    ),
    "push_updates": (
        updates_reach_who_listens,
        progress_reaches_who_listens,
        an_update_of_a_candle_whose_file_is_gone,
        an_update_for_a_client_that_is_gone,
        an_update_that_is_put_off,
    ),
    "websocket_connect": (
        a_client_that_listens_to_everything,
        a_client_in_the_place_of_one_that_is_gone,
    ),
    "websocket_message": (
        a_client_that_listens_to_everything,
        a_client_that_hears_of_its_own_tasks_alone,
        a_message_whose_sender_has_gone,
        a_client_that_asks_for_a_task_that_is_gone,
        a_client_that_asks_for_a_candle_whose_file_is_gone,
    ),
    "websocket_disconnect": (a_client_that_leaves_while_it_listens,),
}

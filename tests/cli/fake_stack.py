"""A collector in memory that keeps its promises, for `data-collector check`; and ways to break it.

Time is the calls' own: each request, and each look at a schedule, moves things on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from chalicelib.audit.chain import sealed
from market_data_collector.cli.values import record
from market_data_collector.jobs import ENDED
from tests.cli.fake_api import AT, PREFIX, STATS, FakeApi, problem, task

EXCHANGE, UNITS = "binance", 3
#: A change of an answer: (route, body) -> body, or a whole response.
Spoil = Callable[[str, dict[str, Any]], dict[str, Any] | httpx.Response]


class FakeStack(FakeApi):
    """`down`: routes that answer 500; `spoil`: what becomes of good answers; `pushes`: whether
    listeners hear of changes; `fires`: whether schedules run by themselves."""

    def __init__(
        self,
        down: frozenset[str] = frozenset(),
        spoil: Spoil = lambda route, body: body,
        pushes: bool = True,
        fires: bool = True,
    ) -> None:
        super().__init__()
        self.down, self.spoil, self.pushes, self.fires = down, spoil, pushes, fires
        self.tasks: dict[str, dict[str, Any]] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self.api_keys: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.trails: dict[str, list[Any]] = {}
        self.used: set[str] = set()
        self.changes: list[str] = []
        self.looks = 0

    # --- HTTP -------------------------------------------------------------------------------------

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        parts = request.url.path.partition(PREFIX)[2].strip("/").split("/")
        kinds = {"task": "task_id", "schedules": "schedule_id", "keys": "key_id"}
        known = {"task": self.tasks, "schedules": self.schedules, "keys": self.api_keys}
        found = parts[1] if parts[0] in kinds and len(parts) > 1 else ""
        if found:
            parts[1] = f"{{{kinds[parts[0]]}}}"
        route = f"{request.method} /{'/'.join(parts)}"
        self.used.add(route)
        self._work()
        if route in self.down:
            return problem(500, "Internal Server Error", "it is broken", "INTERNAL_ERROR")
        body = json.loads(request.content) if request.content else {}
        given = [argument for argument in (found, body) if argument not in ("", None)]
        if request.method == "GET":
            given = [found] if found else [dict(request.url.params)]
        if found and found not in known[parts[0]]:
            kind = parts[0].upper().removesuffix("S")
            return problem(404, "Not found", f"there is no {found}", f"{kind}_NOT_FOUND")
        answer = self._once(request, route, body, lambda: getattr(self, _method(route))(*given))
        if isinstance(answer, httpx.Response):
            return answer
        spoilt = self.spoil(route, json.loads(json.dumps(answer)))
        return spoilt if isinstance(spoilt, httpx.Response) else answer_of(spoilt)

    def _once(
        self, request: httpx.Request, route: str, body: Any, work: Callable[[], Any]
    ) -> dict[str, Any] | httpx.Response:
        key = request.headers.get("idempotency-key")
        if key is None:
            return work()  # type: ignore[no-any-return]
        if key not in self.keys:
            self.keys[key] = (body, work())
        first, answer = self.keys[key]
        if first != body:
            return problem(422, "Key reused", "used for another request", "KEY_REUSED")
        return answer

    def get_status(self, _: Any) -> dict[str, Any]:
        return {
            "status": "idle",
            "exchange": EXCHANGE,
            "queues": {"plan": {}},
            "breaker": {"open": False, "until": None, "reason": None},
        }

    def get_metrics(self, _: Any) -> httpx.Response:
        answer = self.spoil("GET /metrics", {"text": 'data_collector_build_info{version="1"} 1\n'})
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, content=str(answer["text"]).encode(errors="replace"))

    def get_tasks_stats(self, _: Any) -> dict[str, Any]:
        return STATS

    def get_latest_prices(self, _: Any) -> dict[str, Any]:
        price = {"price": 91234.5, "time": AT, "age_seconds": 12, "stale": False}
        return {"prices": {"BTCUSDT": price}, "unreachable": [], "as_of": AT}

    def get_candles(self, _: Any) -> dict[str, Any]:
        opens = [f"2026-11-22T00:00:{at:04}Z" for at in range(UNITS * 1000)]  # as fake_api.task
        return {"candles": [{"open_time": each} for each in opens], "next_page_token": None}

    def get_candles_files(self, _: Any) -> dict[str, Any]:
        file = {"rows": UNITS * 1000, "url": "http://there/candles?X-Amz-Signature=0"}
        return {"files": [file], "next_page_token": None}

    def get_tasks(self, _: Any) -> dict[str, Any]:
        return {"tasks": list(self.tasks.values())[::-1], "next_page_token": None}

    def get_tasks_active(self, _: Any) -> dict[str, Any]:
        found = [each for each in self.tasks.values() if each["status"] in ("pending", "running")]
        return {"tasks": found, "count": len(found)}

    def post_start(self, _: Any) -> dict[str, Any]:
        return self._submitted(self.new_task())

    def post_refresh_symbols(self, _: Any) -> dict[str, Any]:
        return self._submitted(self.new_task())

    def get_coverage(self, _: Any) -> dict[str, Any]:
        counts = {"expected": 24, "held": 22, "explained": {"no_trades": 2}, "missing": 0}
        row = {"symbol": "BTCUSDT", "timeframe": "1h", **counts, "percent": 100, "cells": []}
        return {"coverage": [row], "next_page_token": None}

    def get_coverage_gaps(self, _: Any) -> dict[str, Any]:
        gap = {"start": AT, "end": AT, "candles": 2, "reason": "no_trades", "evidence": None}
        return {"gaps": [gap], "next_page_token": None}

    def post_coverage_fill(self, _: Any) -> dict[str, Any]:
        return self._submitted(self.new_task())

    def post_coverage_verify(self, _: Any) -> dict[str, Any]:
        return self._submitted(self.new_task())

    def get_task(self, task_id: str) -> dict[str, Any]:
        return self.tasks[task_id]

    def post_task_cancel(self, task_id: str, _: Any = None) -> dict[str, Any] | httpx.Response:
        state = self.tasks[task_id]["status"]
        if state in ("completed", "failed"):
            return problem(409, "Conflict", "it has ended", "TASK_ALREADY_ENDED")
        if state != "cancelled":
            self._becomes(task_id, "cancelled", 0)
        return {"task_id": task_id, "status": "cancelled", "stopped_at": AT}

    def post_task_retry(self, task_id: str, _: Any = None) -> dict[str, Any]:
        self._becomes(task_id, "pending", 0, attempt=2)
        return {**self._submitted(task_id), "attempt": 2}

    def get_audit(self, asked: dict[str, str]) -> dict[str, Any]:
        trails = self.trails.values()
        if "task_id" in asked:
            trails = [self.trails.get(asked["task_id"], [])]  # type: ignore[assignment]
        return {"events": [event for trail in trails for event in trail], "next_page_token": None}

    def get_history(self, _: Any) -> dict[str, Any]:
        ended = [each for each in self.tasks.values() if each["status"] in ENDED]
        return {"tasks": ended[::-1], "next_page_token": None}

    def post_schedules(self, body: dict[str, Any]) -> dict[str, Any]:
        made = {
            **body,
            "schedule_id": str(uuid.uuid4()),
            "in_sync": True,
            "enabled": True,
            "next_run_at": AT,
            "last_run": None,
        }
        self.schedules[made["schedule_id"]] = made
        self.changes.append("schedule made")
        return made

    def get_schedules(self, asked: Any) -> dict[str, Any]:
        if isinstance(asked, str):
            shown = self.schedules[asked]
            self.looks += 1
            if self.fires and self.looks > 1 and record(shown["last_run"]).get("by") != "schedule":
                self._run(asked, "schedule")
            return shown
        return {"schedules": list(self.schedules.values()), "next_page_token": None}

    def post_schedules_run(self, schedule_id: str, _: Any = None) -> dict[str, Any]:
        return self._submitted(self._run(schedule_id, "anonymous"))

    def patch_schedules(self, schedule_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        self.schedules[schedule_id] |= {**changes, "next_run_at": None}
        return self.schedules[schedule_id]

    def delete_schedules(self, schedule_id: str, _: Any = None) -> dict[str, Any]:
        del self.schedules[schedule_id]
        return {"schedule_id": schedule_id, "status": "deleted"}

    def post_keys(self, body: dict[str, Any]) -> dict[str, Any]:
        key_id = uuid.uuid4().hex[:16]
        self.api_keys[key_id] = {**body, "key_id": key_id, "status": "live"}
        self.changes.append("key made")
        return {**self.api_keys[key_id], "key": uuid.uuid4().hex}

    def get_keys(self, _: Any) -> dict[str, Any]:
        return {"keys": list(self.api_keys.values()), "next_page_token": None}

    def post_keys_rotate(self, key_id: str, _: Any = None) -> dict[str, Any]:
        return {**self.api_keys[key_id], "key": uuid.uuid4().hex}

    def delete_keys(self, key_id: str, _: Any = None) -> dict[str, Any]:
        self.api_keys[key_id]["status"] = "revoked"
        return self.api_keys[key_id]

    def post_ws_ticket(self, _: Any = None) -> dict[str, Any]:
        return {"ticket": "t", "expires_at": AT, "url": "ws://there"}

    # --- tasks ------------------------------------------------------------------------------------

    def new_task(self, schedule_id: str | None = None) -> str:
        task_id = str(uuid.uuid4())
        self.changes.append("task made")
        self.tasks[task_id] = task(
            "pending", 0, total=UNITS, task_id=task_id, schedule_id=schedule_id
        )
        self._note(task_id, "task.submitted")
        return task_id

    def _work(self) -> None:
        """One more unit of every task, with each request."""
        for task_id, shown in list(self.tasks.items()):
            if shown["status"] in ("pending", "running"):
                left = shown["units"]["remaining"] - 1
                self._becomes(task_id, "running" if left else "completed", UNITS - left)

    def _submitted(self, task_id: str) -> dict[str, Any]:
        return {"task_id": task_id, "status": "submitted", "message": "Collection submitted"}

    def _run(self, schedule_id: str, by: str) -> str:
        task_id = self.new_task(schedule_id)
        run = {"at": AT, "by": by, "task_id": task_id, "status": "pending"}
        self.schedules[schedule_id]["last_run"] = run
        return task_id

    def _becomes(self, task_id: str, state: str, done: int, attempt: int | None = None) -> None:
        was = self.tasks[task_id]
        more = {"task_id": task_id, "schedule_id": was["schedule_id"]}
        shown = task(state, done, total=UNITS, attempt=attempt or was["attempt"], **more)
        self.tasks[task_id] = {**shown, "created_at": was["created_at"]}
        self._note(task_id, f"task.{state}")

    def _note(self, task_id: str, action: str) -> None:
        trail = self.trails.setdefault(task_id, [])
        event = {
            "id": f"task:{task_id}:{len(trail) + 1}",
            "subject": f"task:{task_id}",
            "action": action,
            "at": AT,
            "data": {},
        }
        trail.append(sealed(event, trail[-1] if trail else None))

    # --- WebSocket --------------------------------------------------------------------------------

    def __call__(self, url: str) -> Socket:
        return Socket(self)


class Socket:
    """A connection to topic `tasks`: a snapshot, then each new task as an update."""

    def __init__(self, stack: FakeStack) -> None:
        self._messages = self._heard(stack)

    def _heard(self, stack: FakeStack) -> Iterator[dict[str, Any] | None]:
        known = set(stack.tasks)
        for number in range(1, 1000):
            new = [each for name, each in stack.tasks.items() if name not in known]
            kind = "snapshot" if number == 1 else "update"
            message = {"type": kind, "topic": "tasks", "sequence": number, "tasks": new}
            if number == 1 or (new and stack.pushes):
                yield stack.spoil(kind, message)  # type: ignore[misc]
                known |= {each["task_id"] for each in new}
            else:
                yield None

    def send(self, message: str) -> None:
        pass

    def recv(self, timeout: float) -> str:
        message = next(self._messages)
        if message is None:
            raise TimeoutError
        return json.dumps(message)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def answer_of(body: Any) -> httpx.Response:
    """A good answer with a JSON body, whose characters may be any, half ones of a pair included."""
    headers = {"Content-Type": "application/json"}
    return httpx.Response(200, headers=headers, content=json.dumps(body))


def _method(route: str) -> str:
    """GET /task/{task_id} -> get_task."""
    verb, _, path = route.partition(" ")
    words = [part for part in path.strip("/").split("/") if not part.startswith("{")]
    return "_".join([verb.lower(), *words]).replace("-", "_")

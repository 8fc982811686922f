"""Something to see on the dashboard: tasks of all sorts, and trouble of most sorts, for a while."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from local.aws import Account
from market_data_collector.client import Client

Endpoints = dict[str, Any]


def play(endpoints: Endpoints, minutes: float, report: Callable[[str], None]) -> None:
    """Take turns at the scenes until the time is up; faults do not outlive their scene."""
    ends = time.monotonic() + minutes * 60
    with Client(endpoints["api_url"]) as api:
        known = _known(api)
        turn = 0
        with _promise(endpoints, known[100:104]):
            while time.monotonic() < ends:
                scene = SCENES[turn % len(SCENES)]
                report(f"{time.strftime('%H:%M:%S')} {scene.__name__.replace('_', ' ').strip()}")
                scene(api, endpoints, known)
                turn += 1


def _many_symbols(api: Client, endpoints: Endpoints, known: list[str]) -> None:
    body = {"symbols": known[:60], "start": _days_ago(2), "timeframes": ["1m", "5m", "1h"]}
    _wait(api, [api.start(**body).task_id])


def _a_delisted_symbol(api: Client, endpoints: Endpoints, known: list[str]) -> None:
    gone, here = known[3:6], known[6:12]
    tasks = []
    with _faults(endpoints, *({"kind": "delisted", "match": {"symbol": name}} for name in gone)):
        for timeframes in (["1m", "1h"], ["5m"]):
            tasks.append(api.start(symbols=[*gone, *here], timeframes=timeframes).answer)
        _wait(api, [task["task_id"] for task in tasks])
    _wait(api, [api.retry(tasks[0]["task_id"]).task_id])


def _slow_answers(api: Client, endpoints: Endpoints, known: list[str]) -> None:
    slow = {"kind": "latency", "match": {"path": "/api/v3/klines"}, "delay_ms": 1300}
    with _faults(endpoints, {**slow, "probability": 0.3}):
        body = {"symbols": known[20:60], "timeframes": ["1h"], "start": _days_ago(30)}
        _wait(api, [api.start(**{**body, "priority": "high"}).task_id])


def _a_throttling(api: Client, endpoints: Endpoints, known: list[str]) -> None:
    rule = {"kind": "status", "match": {"path": "/api/v3/klines"}, "remaining": 1}
    with _faults(endpoints, {**rule, "status": 429, "code": -1003, "retry_after": 20}):
        task = api.start(symbols=known[60:90], timeframes=["15m"], start=_days_ago(9)).answer
        _wait(api, [task["task_id"]])


def _a_dead_letter_and_a_cancel(api: Client, endpoints: Endpoints, known: list[str]) -> None:
    to = Account(endpoints["aws_endpoint_url"])
    found = to.client("cloudformation").describe_stacks(StackName=endpoints["stack_name"])
    outputs = {out["OutputKey"]: out["OutputValue"] for out in found["Stacks"][0]["Outputs"]}
    to.client("sqs").send_message(QueueUrl=outputs["DeadLetterQueue"], MessageBody="no message")
    task = api.start(symbols=known[:150], timeframes=["1h"], start=_days_ago(200)).answer
    time.sleep(3)
    api.cancel(task["task_id"])
    for _ in range(5):
        _get(f"{endpoints['api_url']}/api/v1/data-collector/task/{uuid.uuid4()}")


SCENES = (
    _many_symbols,
    _a_delisted_symbol,
    _slow_answers,
    _a_throttling,
    _a_dead_letter_and_a_cancel,
)


def _known(api: Client) -> list[str]:
    names: list[str] = api.stats()["data_collector_status"]["available_symbols"]
    return [name for name in names if name.isascii()]


def _wait(api: Client, task_ids: list[str], most_s: float = 120) -> None:
    ends = time.monotonic() + most_s
    for task_id in task_ids:
        while api.task(task_id)["status"] in ("pending", "running") and time.monotonic() < ends:
            time.sleep(1)


def _days_ago(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86_400))


@contextmanager
def _promise(endpoints: Endpoints, symbols: list[str]) -> Iterator[None]:
    """A schedule each minute, which promises that its candles are at most two minutes behind."""
    url = f"{endpoints['api_url']}/api/v1/data-collector/schedules"
    made = _ask(
        "POST",
        url,
        {
            "name": "demonstration",
            "expression": "rate(1 minute)",
            "request": {"symbols": symbols},
            "freshness": {"max_lag_seconds": 120},
        },
    )
    try:
        yield
    finally:
        _ask("DELETE", f"{url}/{made['schedule_id']}")


@contextmanager
def _faults(endpoints: Endpoints, *rules: dict[str, Any]) -> Iterator[None]:
    url = f"{endpoints['exchange_url']}/_local/faults"
    for rule in rules:
        _ask("POST", url, rule)
    try:
        yield
    finally:
        _ask("DELETE", url)


def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with _opener().open(request, timeout=10) as answer:
        return json.loads(answer.read() or "null")


def _get(url: str) -> int:
    """The status of a GET, whatever it is."""
    try:
        with _opener().open(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))

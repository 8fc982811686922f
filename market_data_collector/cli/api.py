"""The HTTP client: one method per route, no retry that could do work twice.

Every method returns the answer's JSON object as it came and raises the errors of `problems`.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, quote

import httpx

from market_data_collector.cli import problems
from market_data_collector.cli.connection import Answer, Connection
from market_data_collector.cli.problems import ApiError, Expired, NotThisApi, Rejected, Unreachable
from market_data_collector.cli.values import number, plain, record, records

__all__ = ["ENDED", "Api", "ApiError", "Expired", "NotThisApi", "Rejected", "Unreachable"]

ENDED = frozenset({"completed", "failed", "cancelled"})

LEAST_POLL, USUAL_POLL, LONGEST_POLL = 0.3, 1.0, 3600.0
# Polls that may fail in a row before waiting is given up: about 25 s, enough for a restart.
PATIENCE = 8


class Api(Connection):
    """A client for the API, made as its Connection is."""

    def start(self, body: dict[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Submits a collection. With a key it is sent again after a lost connection."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._call("POST", "/start", json=body, headers=headers).body

    def refresh_symbols(self, accept_refused: bool = False) -> dict[str, Any]:
        """`accept_refused`: the list that was refused last is right."""
        body = {"accept_refused": True} if accept_refused else {}
        return self._call("POST", "/refresh-symbols", json=body).body

    def task(self, task_id: str) -> dict[str, Any]:
        """Raises Expired for a task whose record is gone, Rejected (404) for an unknown one."""
        return self._task(task_id).body

    def tasks(
        self,
        task_type: str | None = None,
        status: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> dict[str, Any]:
        """One page, newest first; `next_page_token` is None on the last."""
        filters = {
            "task_type": task_type,
            "status": status,
            "page_size": page_size,
            "page_token": page_token,
        }
        return self._call("GET", "/tasks", params={k: v for k, v in filters.items() if v}).body

    def all_tasks(self, page_token: str | None = None, **filters: Any) -> dict[str, Any]:
        """Every page from `page_token` on, as one; each page token is followed once."""
        given = {"page_token": page_token, **filters}
        asked = {name: str(value) for name, value in given.items() if value}
        return self._every_page("/tasks", "tasks", **asked)

    def history(self, page_token: str | None = None, **filters: Any) -> dict[str, Any]:
        """One page of how tasks ended, newest first; filters as the API's: status, task_type,
        since, until, page_size. A page may be empty and have a `next_page_token`."""
        given = {"page_token": page_token, **filters}
        return self._call("GET", "/history", params={k: v for k, v in given.items() if v}).body

    def some_history(
        self, wanted: int | None, pages: int, page_token: str | None = None, **filters: Any
    ) -> dict[str, Any]:
        """`wanted` entries, or a few more (None: all), of at most `pages` pages of the history."""
        tasks: list[Any] = []
        followed: set[str] = set()
        for _ in range(pages):
            page = self.history(page_token, **filters)
            listed = page.get("tasks")
            tasks += listed if isinstance(listed, list) else []
            token = page.get("next_page_token")
            page_token = token if isinstance(token, str) and token not in followed | {""} else None
            if page_token is None or (wanted is not None and len(tasks) >= wanted):
                break
            followed.add(page_token)
        return {"tasks": tasks, "next_page_token": page_token}

    def active(self) -> dict[str, Any]:
        """Every page, as one; `count`: of all pages."""
        pages = [*self._pages("/tasks/active")]
        found = [each for page in pages for each in records(page.get("tasks"))]
        count = sum(number(page.get("count")) or 0 for page in pages)
        return {"tasks": found, "count": count, "next_page_token": None}

    def stats(self) -> dict[str, Any]:
        return self._call("GET", "/tasks/stats").body

    def cancel(self, task_id: str) -> dict[str, Any]:
        return self._call("POST", f"/task/{_segment(task_id)}/cancel").body

    def retry(self, task_id: str) -> dict[str, Any]:
        return self._call("POST", f"/task/{_segment(task_id)}/retry").body

    def status(self) -> dict[str, Any]:
        return self._call("GET", "/status").body

    def pause(self, seconds: int | None = None, reason: str = "") -> dict[str, Any]:
        """Stops all requests to the exchange, for `seconds` or until `resume`."""
        given = {"duration_seconds": seconds, "reason": reason}
        body = {name: value for name, value in given.items() if value not in (None, "")}
        return self._call("POST", "/pause", json=body).body

    def resume(self) -> dict[str, Any]:
        return self._call("POST", "/resume").body

    def metrics(self) -> str:
        """The collector's state in Prometheus's text format."""
        return self._answered("GET", "/metrics", headers={"Accept": "text/plain"}).text

    def latest_prices(self, symbols: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
        """Prices of `symbols`; of every symbol the collector knows when there are none."""
        params = {"symbols": ",".join(symbols)} if symbols else {}
        return self._call("GET", "/latest-prices", params=params).body

    def candle_pages(self, asked: dict[str, str]) -> Iterator[httpx.Response]:
        """Every page of GET /candles, in the format that is asked for; each is followed once."""
        followed: set[str] = set()
        while True:
            answer = self._answered("GET", "/candles", params=asked, headers={"Accept": "*/*"})
            yield answer
            reference = answer.links.get("next", {}).get("url", "")
            token = dict(parse_qsl(reference.partition("?")[2])).get("page_token", "")
            if token in followed | {""}:
                return
            followed.add(token)
            asked = {**asked, "page_token": token}

    def candle_files(self, **asked: str) -> dict[str, Any]:
        """Every page, as one; `asked` as GET /candles/files takes it."""
        return self._every_page("/candles/files", "files", **asked)

    def all_coverage(self, **asked: str) -> dict[str, Any]:
        """Every page of coverage as one. What a page cuts comes in parts: rows are joined again."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        answer: dict[str, Any] = {}
        for answer in self._pages("/coverage", **asked):
            for row in records(answer.get("coverage")):
                name = (plain(row.get("symbol")), plain(row.get("timeframe")))
                rows[name] = _joined(rows[name], row) if name in rows else row
        return {**answer, "coverage": [*rows.values()], "next_page_token": None}

    def all_gaps(self, **asked: str) -> dict[str, Any]:
        """Every page of the gaps of one symbol and timeframe as one."""
        pages = [*self._pages("/coverage/gaps", **asked)]
        gaps = [gap for page in pages for gap in records(page.get("gaps"))]
        ends = {"start": pages[0].get("start"), "end": pages[-1].get("end")}
        return {**pages[-1], **ends, "gaps": gaps, "next_page_token": None}

    def fill(self, body: dict[str, Any]) -> dict[str, Any]:
        """Submits a collection of what is missing."""
        return self._call("POST", "/coverage/fill", json=body).body

    def verify(self, body: dict[str, Any]) -> dict[str, Any]:
        """Submits a verification of stored files."""
        return self._call("POST", "/coverage/verify", json=body).body

    def audit(self, page_token: str | None = None, **filters: str) -> dict[str, Any]:
        """One page of the audit trail; filters as the API's: task_id, schedule_id, exchange, from,
        to, action."""
        token = {"page_token": page_token} if page_token else {}
        return self._call("GET", "/audit", params={**filters, **token}).body

    def all_audit(self, **filters: str) -> dict[str, Any]:
        """Every page as one; each page token is followed once."""
        return {"events": self._every_page("/audit", "events", **filters)["events"]}

    def create_schedule(
        self, body: dict[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._call("POST", "/schedules", json=body, headers=headers).body

    def schedules(self) -> dict[str, Any]:
        """Every page, as one."""
        return self._every_page("/schedules", "schedules")

    def schedule(self, schedule_id: str) -> dict[str, Any]:
        return self._call("GET", _schedule(schedule_id)).body

    def change_schedule(self, schedule_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", _schedule(schedule_id), json=changes).body

    def delete_schedule(self, schedule_id: str) -> dict[str, Any]:
        return self._call("DELETE", _schedule(schedule_id)).body

    def run_schedule(self, schedule_id: str) -> dict[str, Any]:
        return self._call("POST", f"{_schedule(schedule_id)}/run").body

    def create_key(
        self, owner: str, scopes: list[str], expires_at: str | None = None
    ) -> dict[str, Any]:
        """A new key, whose text, `key`, is shown this once. For admins."""
        body: dict[str, Any] = {"owner": owner, "scopes": scopes}
        if expires_at is not None:
            body["expires_at"] = expires_at
        return self._call("POST", "/keys", json=body).body

    def keys(self) -> dict[str, Any]:
        """Every page, as one."""
        return self._every_page("/keys", "keys")

    def rotate_key(self, key_id: str) -> dict[str, Any]:
        """The key with another secret, whose text, `key`, is shown this once."""
        return self._call("POST", f"/keys/{_segment(key_id)}/rotate").body

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        return self._call("DELETE", f"/keys/{_segment(key_id)}").body

    def ws_ticket(self) -> dict[str, Any]:
        """A new ticket, good for one connection within a minute: `ticket`, `expires_at`, `url`."""
        return self._call("POST", "/ws-ticket").body

    def watch(self, task_id: str) -> Iterator[dict[str, Any]]:
        """The task now and after every poll, until it has ended.

        Waits as long as Retry-After asks, at least 0.3 s. Once the task has been seen, up to
        `PATIENCE` polls in a row may go unanswered or meet a 5xx or 429.
        """
        missed = PATIENCE  # a task that was never seen may not exist: fail at once
        while True:
            try:
                answer = self._task(task_id)
            except ApiError as error:
                if missed >= PATIENCE or not error.passing:
                    raise
                missed += 1
                pause = max(error.retry_after or 0, min(0.2 * 2**missed, 5))
                self._sleep(min(pause, LONGEST_POLL))
                continue
            missed = 0
            yield answer.body
            if answer.body["status"] in ENDED:
                return
            asked = USUAL_POLL if answer.retry_after is None else answer.retry_after
            self._sleep(min(max(asked, LEAST_POLL), LONGEST_POLL))

    def _task(self, task_id: str) -> Answer:
        answer = self._call("GET", f"/task/{_segment(task_id)}")
        if not isinstance(answer.body.get("status"), str):
            raise problems.not_this_api(self.url, "a task without a status")
        return answer


def _segment(text: str) -> str:
    """A segment of a path. Half a pair of characters, which no id has, becomes a question mark."""
    return quote(text, safe="", errors="replace")


def _schedule(schedule_id: str) -> str:
    return f"/schedules/{_segment(schedule_id)}"


def _joined(row: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """A row of coverage that two pages have parts of."""
    explained = dict(record(row.get("explained")))
    for reason, more in record(later.get("explained")).items():
        explained[reason] = (number(explained.get(reason)) or 0) + (number(more) or 0)
    sums = {
        name: (number(row.get(name)) or 0) + (number(later.get(name)) or 0)
        for name in ("expected", "held", "missing")
    }
    expected = sums["expected"]
    done = (expected - sums["missing"]) * 10_000 // expected / 100 if expected else None
    cells = [*records(row.get("cells")), *records(later.get("cells"))]
    ends = {"start": row.get("start") or later.get("start"), "end": later.get("end")}
    return {**row, **ends, **sums, "explained": explained, "percent": done, "cells": cells}

"""A collector that has collected one day of BTCUSDT 1h: what the examples in the docs talk to."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
from arro3.core import Array, DataType, Table
from arro3.io import write_ipc_stream

from tests.cli.fake_api import (
    COVERAGE,
    ENDED_TASK,
    PRICES,
    SUBMITTED,
    FakeApi,
    schedule,
    task,
)

ROWS = 24
DAY_MS = 1_795_305_600_000  # 2026-11-22
HOUR_MS = 3_600_000
CLOSES = [62_000 + 40 * (n % 7) - 25 * (n % 5) + 3.5 * n for n in range(ROWS)]


def candles(first: int = 0, last: int = ROWS) -> Table:
    """Rows `first` to `last` (exclusive) as GET /candles gives them."""
    hours = range(first, last)
    opens = [DAY_MS + n * HOUR_MS for n in hours]
    stamp, whole, real = DataType.timestamp("ms", tz="UTC"), DataType.int64(), DataType.float64()
    closes = CLOSES[first:last]
    prices = {
        "open": [price - 5 for price in closes],
        "high": [price + 20 for price in closes],
        "low": [price - 20 for price in closes],
        "close": closes,
    }
    volumes = {
        name: [amount + n for n in hours]
        for name, amount in (
            ("volume", 10.5),
            ("quote_volume", 650_000.0),
            ("taker_buy_volume", 5.25),
            ("taker_buy_quote_volume", 325_000.0),
        )
    }
    return Table.from_pydict(
        {
            "open_time": Array(opens, whole).cast(stamp),
            "close_time": Array([at + HOUR_MS - 1 for at in opens], whole).cast(stamp),
            **{name: Array(column, real) for name, column in {**prices, **volumes}.items()},
            "trades": Array([100 + n for n in hours], whole),
        }
    )


def stream(table: Table, **headers: str) -> httpx.Response:
    content = io.BytesIO()
    write_ipc_stream(table, content)
    headers |= {"Content-Type": "application/vnd.apache.arrow.stream"}
    return httpx.Response(200, content=content.getvalue(), headers=headers)


class Collector(FakeApi):
    """A task that was started is pending when it is first looked at, then completed."""

    def __init__(self) -> None:
        done = task(done=1, total=1, message="Collected 1 of 1 units, 24 candles", candles=24)
        waiting = task("pending", 0, total=1, message="Waiting to be planned")
        super().__init__()
        row = COVERAGE["coverage"][0] | {"held": ROWS, "missing": 0, "percent": 100}
        self.usual |= {
            "GET /tasks": (200, {"tasks": [done], "next_page_token": None}),
            "GET /coverage": (200, {**COVERAGE, "coverage": [row]}),
            "GET /candles/files": (200, {"files": [{"rows": ROWS}], "next_page_token": None}),
            "GET /latest-prices": (200, {**PRICES, "unreachable": ["NOPE"]}),
            "GET /history": (200, {"tasks": [ENDED_TASK], "next_page_token": None}),
        }
        self._waiting, self._done = waiting, done
        self._seen = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.rpartition("data-collector/")[2]
        body: dict[str, Any] = json.loads(request.read() or b"{}")
        if path == "candles":
            return stream(candles())
        if path == "start" and body.get("dry_run"):
            return httpx.Response(200, json={"dry_run": True, "candles": ROWS})
        if path == "start":
            self._seen = 0
            return httpx.Response(202, json=SUBMITTED)
        if path.startswith("task/"):
            self._seen += 1
            view = self._waiting if self._seen == 1 else self._done
            return httpx.Response(200, json=view, headers={"Retry-After": "0"})
        if path == "schedules" and request.method == "POST":
            return httpx.Response(201, json=schedule(name=body["name"]))
        return super().handle_request(request)

"""Faults and statistics of the local exchange, over its control routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.e2e.stack import Cloud

#: Shorter than the collector's patience, which would take it for a failure.
HELD_MS = 8_000


class ExchangeControl:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def add_fault(self, **rule: Any) -> None:
        """One more fault rule, in force until `reset`."""
        self._http.post("/_local/faults", json=rule).raise_for_status()

    @contextmanager
    def fault(self, **rule: Any) -> Iterator[None]:
        """One fault rule; at the end all are gone."""
        self.add_fault(**rule)
        try:
            yield
        finally:
            self._http.delete("/_local/faults").raise_for_status()

    def requests(self) -> int:
        """How many requests it has answered or dropped so far."""
        stats = self._http.get("/_local/stats").raise_for_status().json()
        return int(stats["requests"])

    def arrivals(self, path: str = "/api/v3/klines") -> list[int]:
        """When each request to a path arrived, in epoch ms, oldest first."""
        return [at for at, asked, _ in self._log() if asked == path]

    def asked_of(self, symbol: str) -> list[str]:
        """The path of each request that named a symbol, oldest first."""
        return [path for _, path, asked in self._log() if asked == symbol]

    def asked_of_each(self, symbols: list[str]) -> Counter[str]:
        """Symbol -> how many requests named it."""
        return Counter(asked for *_, asked in self._log() if asked in symbols)

    def requests_for_klines(self) -> int:
        """How many of them asked for candles, under any root."""
        stats = self._http.get("/_local/stats").raise_for_status().json()
        return sum(
            sum(counts.values()) for path, counts in stats["by_path"].items() if "klines" in path
        )

    def listed(self, symbol: str, timeframe: str) -> int:
        """When its first candle opens, epoch ms."""
        query = {"symbol": symbol, "interval": timeframe, "startTime": "0", "limit": "1"}
        answer = self._http.get("/api/v3/klines", params=query).raise_for_status()
        return int(answer.json()[0][0])

    def quote_volumes(self) -> dict[str, float]:
        """Symbol -> what was traded of it in 24 hours, in its quote asset."""
        found = self._http.get("/api/v3/ticker/24hr").raise_for_status().json()
        return {entry["symbol"]: float(entry["quoteVolume"]) for entry in found}

    def _log(self) -> list[tuple[int, str, str]]:
        log = self._http.get("/_local/requests").raise_for_status().json()
        assert not log["forgotten"]
        return [(at, path, symbol) for at, path, symbol in log["requests"]]

    def reset(self) -> None:
        self._http.post("/_local/reset").raise_for_status()

    def klines(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[list[Any]]:
        """Every candle that opens in [start, end), paged by hand."""
        rows: list[list[Any]] = []
        while start_ms < end_ms:
            answer = self._http.get(
                "/api/v3/klines",
                params={
                    "symbol": symbol,
                    "interval": timeframe,
                    "startTime": start_ms,
                    "endTime": end_ms - 1,
                    "limit": 1000,
                },
            )
            page = answer.raise_for_status().json()
            if not page:
                break
            rows += page
            start_ms = page[-1][0] + 1
        return rows


@contextmanager
def controlled(cloud: Cloud) -> Iterator[ExchangeControl]:
    control = ExchangeControl(cloud.exchange_url)
    try:
        yield control
    finally:
        control.close()


@contextmanager
def held_exchange(cloud: Cloud) -> Iterator[None]:
    """No candles are answered before the end of the block, so no collection ends in it."""
    held = {"kind": "latency", "match": {"path": "/api/v3/klines"}, "delay_ms": HELD_MS}
    with controlled(cloud) as control, control.fault(**held):
        yield

"""The exchange's bad days: failing requests, and slow ones while work runs ahead of the kills."""

from __future__ import annotations

from typing import Any

import httpx

#: Of all requests; together more than one in ten.
FAILING: list[dict[str, Any]] = [
    {"kind": "status", "status": 500, "probability": 0.10},
    {"kind": "status", "status": 429, "retry_after": 2, "probability": 0.003},
    {"kind": "truncated_json", "probability": 0.02},
]
QUICK_MS, SLOW_MS = 200, 2500


class BadDays:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._latency: tuple[int, int] | None = None

    def close(self) -> None:
        self._http.close()

    def begin(self) -> None:
        self._http.post("/_local/faults", json=FAILING).raise_for_status()
        self.answer_in(QUICK_MS)

    def answer_in(self, delay_ms: int) -> None:
        """Every candle request takes this much longer from now on."""
        if self._latency is not None and self._latency[1] == delay_ms:
            return
        rule = {"kind": "latency", "match": {"path": "/api/v3/klines"}, "delay_ms": delay_ms}
        made = self._http.post("/_local/faults", json=rule).raise_for_status().json()["faults"]
        if self._latency is not None:
            self._http.delete(f"/_local/faults/{self._latency[0]}").raise_for_status()
        self._latency = made[0]["id"], delay_ms

    def end(self) -> dict[str, int]:
        """No faults any more; how often each kind struck, and how many requests there were."""
        rules = self._http.get("/_local/faults").raise_for_status().json()["faults"]
        self._http.delete("/_local/faults").raise_for_status()
        stats = self._http.get("/_local/stats").raise_for_status().json()
        struck = {_name(rule): rule["struck"] for rule in rules if rule["kind"] != "latency"}
        return {"requests": stats["requests"], **struck}


def _name(rule: dict[str, Any]) -> str:
    return f"HTTP {rule['status']}" if rule["kind"] == "status" else str(rule["kind"])

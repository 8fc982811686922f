"""Stories of keys: made, used, rotated and revoked, and what ends with them."""

from __future__ import annotations

import json

from chalicelib.live import receive
from tests.unit.error_table.life import BODY, MINUTE_MS, Life


def a_key_and_what_ends_with_it(life: Life) -> None:
    life.require_keys()
    boss = life.bearer
    made = life.ask("POST", "/keys", {"owner": "me", "scopes": ["collect"]})
    assert made.status_code == 201, made.body
    life.bearer, key = made.json_body["key"], f"/keys/{made.json_body['key_id']}"
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    schedule = {"expression": "cron(0 0 1 1 ? *)", "request": request}
    assert life.ask("POST", "/schedules", schedule, "schedule-key").status_code == 201
    ticket = life.ask("POST", "/ws-ticket").json_body["ticket"]
    life.socket("connect", lambda: receive.connect(life.worker, "c", ticket))
    body = json.dumps({"action": "subscribe", "topics": ["tasks"]})
    for _ in range(2):
        life.socket("message", lambda: receive.receive(life.worker, _NO_CANDLES, "c", body))
    life.start("start-key")
    life.settle()
    life.bearer = boss
    assert life.ask("GET", "/keys").status_code == 200
    assert life.ask("GET", "/tasks").json_body["tasks"]
    assert life.ask("POST", f"{key}/rotate").status_code == 200
    assert life.ask("DELETE", key).status_code == 200
    life.clock.advance(MINUTE_MS)
    life.start("last-key")  # nobody hears of it
    life.settle()
    for _ in range(3):
        life.clock.advance(MINUTE_MS)
        life.watch()
    [stopped] = [item for item in life.aws.items("tasks") if "synced_rev" in item]
    assert stopped["enabled"] == {"BOOL": False}
    assert "was revoked" in stopped["stopped_because"]["S"]


class _NoCandles:
    async def read(self, symbol: str, timeframe: str, open_ms: int) -> object:
        raise AssertionError("nobody listens to candles")


_NO_CANDLES = _NoCandles()

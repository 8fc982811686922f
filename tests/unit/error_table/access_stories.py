"""Stories of keys: made, used, rotated and revoked, and what ends with them."""

from __future__ import annotations

import json

from chalicelib.live import receive
from tests.unit.error_table.life import BODY, MINUTE_MS, Life
from tests.unit.error_table.schedule_stories import fire


def a_key_and_what_ends_with_it(life: Life) -> None:
    life.require_keys()
    boss = life.bearer
    answer = life.ask("POST", "/keys", {"owner": "me", "scopes": ["collect"]})
    assert answer.status_code == 201, answer.body
    life.bearer, key = answer.json_body["key"], f"/keys/{answer.json_body['key_id']}"
    request = {name: BODY[name] for name in ("symbols", "timeframes")}
    made = []
    for expression in ("cron(0 * * * ? *)", "cron(0 0 1 1 ? *)"):
        body = {"expression": expression, "request": request}
        answer = life.ask("POST", "/schedules", body, expression[:12])
        assert answer.status_code == 201, answer.body
        made.append(answer.json_body["schedule_id"])
    life.watch()
    for _ in range(2):  # a ticket whose connection failed may be used up
        ticket = life.ask("POST", "/ws-ticket").json_body["ticket"]
        if _connects(life, ticket):
            break
    listen = json.dumps({"action": "subscribe", "topics": ["tasks"]})
    life.clock.advance(MINUTE_MS)  # every function reads the key anew
    for _ in range(2):
        life.socket("message", lambda: receive.receive(life.worker, _NO_CANDLES, "c", listen))
    life.start("start-key")
    life.settle()
    life.bearer = boss
    assert life.ask("GET", "/keys").status_code == 200
    assert life.ask("GET", "/tasks").json_body["tasks"]
    rotated = life.ask("POST", f"{key}/rotate")
    assert rotated.status_code == 200, rotated.body
    life.bearer = rotated.json_body["key"]
    life.start("last-key")  # its listener hears nothing more of it
    life.bearer = boss
    assert life.ask("DELETE", key).status_code == 200
    life.settle()
    assert not any(item["sk"]["S"] == "CONN#c" for item in life.aws.items("connections"))
    fire(life, f"/schedules/{made[0]}")
    for _ in range(3):
        life.clock.advance(MINUTE_MS)
        life.watch()
    stopped = [item for item in life.aws.items("tasks") if "synced_rev" in item]
    assert len(stopped) == 2
    for item in stopped:
        assert item["enabled"] == {"BOOL": False}
        assert "was revoked" in item["stopped_because"]["S"]


def _connects(life: Life, ticket: str) -> bool:
    return life.run("connect", lambda: receive.connect(life.worker, "c", ticket))[0]


class _NoCandles:
    async def read(self, symbol: str, timeframe: str, open_ms: int) -> object:
        raise AssertionError("nobody listens to candles")


_NO_CANDLES = _NoCandles()

"""Control of the running exchange over HTTP, under `/_local`; see HELP."""

import json
from collections import Counter, deque
from typing import Any

from aiohttp import web

from local.exchange import faults as faults_module
from local.exchange.exchange import Exchange
from local.exchange.timeframes import utc_ms

#: Requests that the log keeps: more than two minutes at the full weight of a minute.
MOST_LOGGED = 10_000

HELP = f"""The local exchange: control

GET    /_local/              this text
GET    /_local/faults        the rules in force, and how often each struck
POST   /_local/faults        add a rule, or a list of rules; answers them with their ids
DELETE /_local/faults        remove all rules
DELETE /_local/faults/{{id}}   remove one
GET    /_local/stats         requests by path and status, most at once, times, weight used
GET    /_local/requests      the last {MOST_LOGGED:,} requests in the order in which they came:
                             [epoch ms, path, symbol], and how many older ones are forgotten
POST   /_local/reset         forget faults, weights, bans and statistics (not the clock)
GET    /_local/clock         the exchange's time
PUT    /_local/clock         {{"offset_ms": n}} shifts it against real time (from then on in
                             force alone), {{"now": iso or epoch ms}} freezes it,
                             {{"now": null}} lets it run again

{faults_module.__doc__}"""


class Stats:
    """Counts of the requests to `/api` and `/data`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start to count anew; requests under way stay counted as under way."""
        self._counts: dict[str, Counter[str]] = {}
        self._log: deque[tuple[int, str, str]] = deque(maxlen=MOST_LOGGED)
        self._logged = 0
        self._running = getattr(self, "_running", 0)
        self._most = self._running
        self._first: int | None = None
        self._last: int | None = None

    def begin(self, path: str, symbol: str, now: int) -> None:
        """A request arrived at `now` (epoch ms); `symbol` is empty where it names none."""
        self._log.append((now, path, symbol))
        self._logged += 1
        self._running += 1
        self._most = max(self._most, self._running)
        self._first = now if self._first is None else self._first
        self._last = now

    def end(self, path: str, status: int) -> None:
        """It was answered; status 0 means that the connection was closed instead."""
        self._running -= 1
        self._counts.setdefault(path, Counter())[str(status)] += 1

    def log(self) -> dict[str, Any]:
        """The last requests as a JSON-ready value, oldest first."""
        return {"requests": list(self._log), "forgotten": self._logged - len(self._log)}

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON-ready value."""
        by_path = {path: dict(counts) for path, counts in sorted(self._counts.items())}
        return {
            "requests": sum(sum(counts.values()) for counts in by_path.values()),
            "by_path": by_path,
            "running": self._running,
            "max_concurrent": self._most,
            "first_time": self._first,
            "last_time": self._last,
        }


def add_control(app: web.Application, exchange: Exchange, stats: Stats) -> None:
    """Add the routes under `/_local`; they are not weighed, counted or made to fail."""
    faults, clock = exchange.faults, exchange.clock

    async def get_help(_: web.Request) -> web.Response:
        return web.Response(text=HELP)

    async def get_faults(_: web.Request) -> web.Response:
        return web.json_response({"faults": faults.to_json()})

    async def post_faults(request: web.Request) -> web.Response:
        sent = await _read_json(request)
        rules = sent if isinstance(sent, list) else [sent]
        made = []
        try:
            for fields in rules:
                made.append(faults.add(fields).id)
        except (ValueError, TypeError) as error:
            for rule_id in made:  # all of them or none
                faults.remove(rule_id)
            raise _bad_request(str(error)) from None
        rows = [row for row in faults.to_json() if row["id"] in made]
        return web.json_response({"faults": rows}, status=201)

    async def delete_faults(request: web.Request) -> web.Response:
        named = request.match_info.get("id")
        removed = faults.remove(int(named) if named is not None else None)
        if named is not None and not removed:
            raise web.HTTPNotFound(text=json.dumps({"error": f"there is no rule {named}"}))
        return web.json_response({"removed": removed})

    async def get_stats(_: web.Request) -> web.Response:
        return web.json_response(stats.to_json() | {"weight_used": exchange.limiter.total})

    async def get_requests(_: web.Request) -> web.Response:
        return web.json_response(stats.log())

    async def post_reset(_: web.Request) -> web.Response:
        faults.remove()
        exchange.limiter.reset()
        stats.reset()
        return web.json_response({})

    async def get_clock(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "now": clock.now(),
                "offset_ms": clock.offset_ms,
                "frozen": clock.frozen_at is not None,
            }
        )

    async def put_clock(request: web.Request) -> web.Response:
        sent = await _read_json(request)
        if not isinstance(sent, dict) or not sent or set(sent) - {"offset_ms", "now"}:
            raise _bad_request("send offset_ms, now, or both")
        offset, moment = sent.get("offset_ms", 0), sent.get("now")
        try:
            moment = utc_ms(moment) if isinstance(moment, str) else moment
        except ValueError:
            raise _bad_request("now is an ISO 8601 time or epoch milliseconds") from None
        if not isinstance(offset, int) or not isinstance(moment, int | None):
            raise _bad_request("offset_ms and now are whole milliseconds")
        clock.offset_ms, clock.frozen_at = offset, moment
        return await get_clock(request)

    app.router.add_get("/_local/", get_help)
    app.router.add_get("/_local/faults", get_faults)
    app.router.add_post("/_local/faults", post_faults)
    app.router.add_delete("/_local/faults", delete_faults)
    app.router.add_delete(r"/_local/faults/{id:\d+}", delete_faults)
    app.router.add_get("/_local/stats", get_stats)
    app.router.add_get("/_local/requests", get_requests)
    app.router.add_post("/_local/reset", post_reset)
    app.router.add_get("/_local/clock", get_clock)
    app.router.add_put("/_local/clock", put_clock)


async def _read_json(request: web.Request) -> Any:
    try:
        return await request.json()
    except json.JSONDecodeError as error:
        raise _bad_request(f"the body is not JSON: {error}") from None


def _bad_request(reason: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": reason}), content_type="application/json")

"""The local exchange, which keeps its answers: `python -m benchmarks.replaying_exchange --port N`.

Drawing a page of candles takes it longer than anybody takes to collect one. A page that was asked
for before is sent again as it was, compressed, so it costs a millisecond at most. Kept are pages of
the past, and the oldest of each series. Nobody is throttled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from aiohttp import web

from benchmarks.exchange_server import ENDLESS
from local.exchange.exchange import Exchange
from local.exchange.server import EXCHANGE, make_app
from local.exchange.timeframes import DAY

SYMBOLS = 500
_KEPT = web.AppKey("kept", dict[tuple[object, ...], tuple[bytes, dict[str, str]]])


def app() -> web.Application:
    made = make_app(Exchange(SYMBOLS, ENDLESS, 1))
    made[_KEPT] = {}
    made.middlewares.append(_replay)
    return made


@web.middleware
async def _replay(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    query, now_ms = dict(request.query), time.time() * 1000
    if query.get("startTime") == "0" and int(query.get("endTime", "0")) > now_ms - DAY:
        del query["endTime"]
    elif int(query.get("endTime", now_ms)) >= now_ms:
        return await handler(request)
    kept = request.app[_KEPT]
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    place = (request.path, packed, *query.items())
    if place not in kept:
        answered = await handler(request)
        if answered.status == 200 and isinstance(answered, web.Response):
            assert isinstance(answered.body, bytes)
            kept[place] = answered.body, dict(answered.headers)
        return answered
    body, headers = kept[place]
    limiter, address = request.app[EXCHANGE].limiter, request.remote or ""
    limiter.charge(address, 2, int(now_ms))
    used = str(limiter.used(address, int(now_ms)))
    return web.Response(
        body=body,
        headers={
            **headers,
            "X-MBX-USED-WEIGHT": used,
            "X-MBX-USED-WEIGHT-1M": used,
            "Date": formatdate(now_ms / 1000, usegmt=True),
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    web.run_app(app(), host="127.0.0.1", port=port, access_log=None, print=None)

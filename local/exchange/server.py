"""The exchange over HTTP: weights, headers, faults and compression around the endpoints."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate

from aiohttp import web

from local.exchange.archive import File, query_of
from local.exchange.control import Stats, add_control
from local.exchange.errors import ApiError
from local.exchange.exchange import Exchange
from local.exchange.faults import (
    BODIES,
    FIREWALL_PAGE,
    MAINTENANCE_PAGE,
    REPLIES,
    SPOILED_FILES,
    Rule,
    error_of,
)
from local.exchange.spoiling import spoil_body

# Shorter bodies are not worth compressing.
_COMPRESS_FROM = 1024
_JSON = {"Content-Type": "application/json;charset=UTF-8"}

EXCHANGE = web.AppKey("exchange", Exchange)
STATS = web.AppKey("stats", Stats)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(exchange: Exchange) -> web.Application:
    """The web application of one exchange: `/api/v3`, `/data` and `/_local`."""
    app = web.Application()
    app[EXCHANGE] = exchange
    app[STATS] = Stats()
    for path in _ENDPOINTS:
        app.router.add_get(path, _answer_api)
    app.router.add_get("/data/{rest:.+}", _answer_archive)
    add_control(app, exchange, app[STATS])
    return app


async def _answer_api(request: web.Request) -> web.StreamResponse:
    exchange, path = request.app[EXCHANGE], request.path
    endpoint, weigh = _ENDPOINTS[path]
    now = exchange.clock.now()
    address = request.remote or ""
    refusal = exchange.limiter.charge(address, weigh(request.query), now)
    used = str(exchange.limiter.used(address, now))
    headers = {**_JSON, "X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}

    async def answer() -> web.StreamResponse:
        if refusal is not None:
            return _refuse(refusal)
        try:
            text = await endpoint(exchange, request)
        except ApiError as error:
            return _refuse(error)
        return web.Response(body=text.encode(), headers=_JSON)

    return await _with_faults(request, request.query, answer, headers)


async def _answer_archive(request: web.Request) -> web.StreamResponse:
    exchange, path = request.app[EXCHANGE], request.path
    query = query_of(path)

    async def answer() -> web.StreamResponse:
        now = exchange.clock.now()
        rule = next(exchange.faults.striking(("archive",), path, query), None)
        mode = rule.mode if rule else ""
        content = mode if mode in SPOILED_FILES else ""
        file = None
        if mode != "missing":
            file = await asyncio.to_thread(exchange.archive.file, path, now, content)
        if file is None:
            text = "<Error><Code>NoSuchKey</Code></Error>"
            return web.Response(status=404, text=text, content_type="application/xml")
        if path.endswith(".CHECKSUM"):
            return _checksum(file, path, mode)
        headers = {"Content-Type": "application/zip"}
        if mode == "truncated":
            whole = await asyncio.to_thread(file.path.read_bytes)
            return web.Response(body=whole[: len(whole) // 2], headers=headers)
        return web.FileResponse(file.path, headers=headers)

    return await _with_faults(request, query, answer, {})


def _checksum(file: File, path: str, mode: str) -> web.Response:
    digest = file.sha256[::-1] if mode == "checksum" else file.sha256
    name = path.rpartition("/")[2].removesuffix(".CHECKSUM")
    headers = {
        "Content-Type": "text/plain",
        "Last-Modified": formatdate(file.modified, usegmt=True),
        "ETag": f'"{digest[:32]}"',
    }
    return web.Response(body=f"{digest}  {name}\n".encode(), headers=headers)


async def _with_faults(
    request: web.Request,
    query: Mapping[str, str],
    answer: Callable[[], Awaitable[web.StreamResponse]],
    headers: dict[str, str],
) -> web.StreamResponse:
    exchange, stats = request.app[EXCHANGE], request.app[STATS]
    faults, place = exchange.faults, (request.path, query)
    status = 0  # in the statistics: closed without an answer
    stats.begin(request.path, query.get("symbol", ""), exchange.clock.now())
    try:
        for rule in faults.striking(("latency",), *place):
            await asyncio.sleep(rule.delay_ms / 1000)
        struck = next(faults.striking(REPLIES, *place), None)
        if struck is not None and struck.kind == "outage" and struck.mode != "503":
            if request.transport is not None:
                request.transport.close()
            # Nothing of this is sent: the connection is gone.
            return web.Response(status=500)
        if struck is not None:
            response: web.StreamResponse = _fault_reply(struck, exchange.clock.now())
        else:
            response = await answer()
        # A file of the archive is sent from the disk: rules of the kind archive spoil it.
        if isinstance(response, web.Response):
            if struck is None and response.status == 200 and isinstance(response.body, bytes):
                for rule in faults.striking(BODIES, *place):
                    response.body = _spoil(rule, response.body)
            if response.content_type == "application/json":
                response.headers.update(headers)
            _compress(request, response)
        response.headers["Date"] = formatdate(exchange.clock.now() / 1000, usegmt=True)
        status = response.status
        return response
    finally:
        stats.end(request.path, status)


def _spoil(rule: Rule, body: bytes) -> bytes:
    try:
        return spoil_body(rule, body)
    except ValueError:
        return body  # cut before, or a checksum: nothing left to swap


def _fault_reply(rule: Rule, now: int) -> web.Response:
    if rule.kind == "html403":
        return web.Response(status=403, text=FIREWALL_PAGE, content_type="text/html")
    if rule.kind == "html200":
        return web.Response(text=MAINTENANCE_PAGE, content_type="text/html")
    return _refuse(error_of(rule, now))


def _refuse(error: ApiError) -> web.Response:
    headers = dict(_JSON)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(status=error.status, body=error.body().encode(), headers=headers)


def _compress(request: web.Request, response: web.Response) -> None:
    body = response.body
    accepted = request.headers.get("Accept-Encoding", "")
    if not isinstance(body, bytes) or len(body) < _COMPRESS_FROM or "gzip" not in accepted:
        return
    response.body = gzip.compress(body, compresslevel=1, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"


# Weights: https://developers.binance.com/docs/binance-spot-api-docs/rest-api


def _weigh(one: int, all_symbols: int | None = None) -> Callable[[Mapping[str, str]], int]:
    def weigh(query: Mapping[str, str]) -> int:
        return one if all_symbols is None or "symbol" in query else all_symbols

    return weigh


def _weigh_day(query: Mapping[str, str]) -> int:
    if "symbol" in query:
        return 2
    try:
        count = len(json.loads(query["symbols"]))
    except (KeyError, ValueError, TypeError):
        return 80
    return 2 if count <= 20 else 40 if count <= 100 else 80


async def _klines(exchange: Exchange, request: web.Request) -> str:
    micros = request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
    return await exchange.klines(request.path, request.query, micros)


def _on_query(
    method: Callable[[Exchange, Mapping[str, str]], Awaitable[str]],
) -> Callable[[Exchange, web.Request], Awaitable[str]]:
    async def endpoint(exchange: Exchange, request: web.Request) -> str:
        return await method(exchange, request.query)

    return endpoint


_ENDPOINTS = {
    "/api/v3/ping": (_on_query(Exchange.ping), _weigh(1)),
    "/api/v3/time": (_on_query(Exchange.time), _weigh(1)),
    "/api/v3/klines": (_klines, _weigh(2)),
    "/api/v3/uiKlines": (_klines, _weigh(2)),
    "/api/v3/exchangeInfo": (_on_query(Exchange.exchange_info), _weigh(20)),
    "/api/v3/ticker/price": (_on_query(Exchange.ticker_price), _weigh(2, 4)),
    "/api/v3/ticker/bookTicker": (_on_query(Exchange.ticker_book), _weigh(2, 4)),
    "/api/v3/ticker/24hr": (_on_query(Exchange.ticker_day), _weigh_day),
    "/api/v3/avgPrice": (_on_query(Exchange.average_price), _weigh(2)),
}

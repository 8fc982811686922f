"""The stable address in front of the embedded cloud: HTTP under /api/, WebSocket at /ws.

The stack's own addresses hold ids that change when it is made anew. Bodies are streamed and headers
passed on as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import aiohttp
from aiohttp import web

#: Headers that belong to one connection, not to the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # Made anew for the next hop.
        "host",
        "content-length",
    }
)
_API: web.AppKey[str] = web.AppKey("api", str)
_SOCKETS: web.AppKey[str] = web.AppKey("sockets", str)
_CLIENT: web.AppKey[aiohttp.ClientSession] = web.AppKey("client", aiohttp.ClientSession)


def make_app(api: str, sockets: str) -> web.Application:
    app = web.Application(client_max_size=0)
    app[_API], app[_SOCKETS] = api, sockets
    app.cleanup_ctx.append(_with_client)
    app.router.add_get("/{page:|docs|openapi.json}", _to_page)
    app.router.add_get("/ws", _forward_socket)
    app.router.add_route("*", "/api/{path:.*}", _forward)
    return app


async def _with_client(app: web.Application) -> Any:
    # No total timeout: a WebSocket lasts for hours. Bodies stay compressed as they came.
    timeout = aiohttp.ClientTimeout(total=None, connect=5)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, auto_decompress=False
    ) as client:
        app[_CLIENT] = client
        yield


async def _to_page(request: web.Request) -> web.StreamResponse:
    """What is at the root of a stage is below its name."""
    raise web.HTTPFound(f"/api/{request.match_info['page']}")


async def _forward(request: web.Request) -> web.StreamResponse:
    try:
        async with request.app[_CLIENT].request(
            request.method,
            request.app[_API] + request.raw_path,
            headers={**_passed_on(request.headers), "X-Forwarded-Host": request.host},
            # What the caller did not say is not said for it: a content type above all.
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except aiohttp.ClientConnectionError:
        return _gone()


async def _forward_socket(request: web.Request) -> web.StreamResponse:
    url = request.app[_SOCKETS] + (f"?{request.query_string}" if request.query_string else "")
    protocols = [
        part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    ]
    headers = {
        name: value
        for name, value in _passed_on(request.headers).items()
        if not name.lower().startswith("sec-websocket-")
    }
    try:
        cloud = await request.app[_CLIENT].ws_connect(
            url, headers=headers, protocols=[part for part in protocols if part], max_msg_size=0
        )
    except aiohttp.WSServerHandshakeError as error:
        # Refused by $connect: the caller sees the status it would see on AWS.
        return web.Response(status=error.status)
    except aiohttp.ClientConnectionError:
        return _gone()
    caller = web.WebSocketResponse(
        protocols=[cloud.protocol] if cloud.protocol else (), max_msg_size=0
    )
    await caller.prepare(request)
    directions = [
        asyncio.create_task(_pump(caller, cloud)),
        asyncio.create_task(_pump(cloud, caller)),
    ]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        await cloud.close(code=caller.close_code or 1000)
        await caller.close(code=cloud.close_code or 1000)
    return caller


async def _pump(source: Any, target: Any) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _gone() -> web.Response:
    return web.json_response(
        {
            "type": "about:blank",
            "title": "Bad Gateway",
            "status": 502,
            "detail": "The embedded cloud does not answer; `make run` starts it again.",
            "reason": "CLOUD_DOWN",
        },
        status=502,
        content_type="application/problem+json",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Forward to the APIs of the embedded cloud.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api", required=True, help="URL in front of /api/...")
    parser.add_argument("--sockets", required=True, help="URL of the WebSocket API's stage")
    given = parser.parse_args()
    app = make_app(given.api, given.sockets)
    # Sockets stay open for hours: its end does not wait for them.
    options: dict[str, Any] = {"print": None, "access_log": None, "shutdown_timeout": 0.5}
    web.run_app(app, host="127.0.0.1", port=given.port, **options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""AWS calls over a pool of connections, signed with Signature Version 4: for the functions that
plan and collect, which make many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from chalicelib.aws.protocol import Calls, Request
from chalicelib.core.http import Http, HttpAnswer

_CONNECTIONS = 32
#: Short, and few tries: a queue repeats the whole message.
_TIMEOUT_SECONDS = 10.0


class PooledCalls(Calls):
    """As Calls, all on one event loop."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        super().__init__(endpoints, url_suffix)
        self._http = Http(_CONNECTIONS, _TIMEOUT_SECONDS)

    async def _send(self, request: Request, headers: dict[str, str]) -> HttpAnswer:
        return await self._http.request(request.method, request.url, headers, request.body)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        await self._http.aclose()

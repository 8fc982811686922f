"""AWS calls over a pool of connections, signed with Signature Version 4: for the functions that
plan and collect, which make many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from chalicelib.aws.gathered_reads import GatheredReads
from chalicelib.aws.protocol import Calls, Request
from chalicelib.core.http import Http, HttpAnswer

_CONNECTIONS = 32
#: Short, and few tries: a queue repeats the whole message.
_TIMEOUT_SECONDS = 10.0


class PooledCalls(Calls):
    """As Calls, all on one event loop; reads of single items go together (gathered_reads.py)."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        super().__init__(endpoints, url_suffix)
        self._http = Http(_CONNECTIONS, _TIMEOUT_SECONDS)
        self._reads = GatheredReads(super().__call__)

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if self._reads.takes(service, operation, parameters):
            return await self._reads.read(parameters["TableName"], parameters["Key"])
        return await super().__call__(service, operation, **parameters)

    async def _send(self, request: Request, headers: dict[str, str]) -> HttpAnswer:
        return await self._http.request(request.method, request.url, headers, request.body)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        await self._http.aclose()

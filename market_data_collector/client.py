"""The two clients: one that blocks, one that is awaited. What they can do is in `Operations`.

>>> with Client() as client:
...     job = client.start(["BTCUSDT"], ["1h"])
...     task = job.wait()
...     candles = client.candles("BTCUSDT", "1h")
>>> task["status"], len(candles)
('completed', 24)
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import httpx

from market_data_collector.calls import Site
from market_data_collector.collecting import Collecting
from market_data_collector.described import J
from market_data_collector.jobs import AsyncJob, Job
from market_data_collector.locate import Unusable, find_key, find_url, is_loopback, with_prefix
from market_data_collector.managing import Managing
from market_data_collector.operation import Awaiting, Blocking
from market_data_collector.reading import Reading
from market_data_collector.senders import AwaitingSender, Sender
from market_data_collector.sockets import AwaitedOpener, Opener, open_awaited_socket, open_socket

# Seconds. The read timeout is just above API Gateway's own limit of 29 s.
TIMEOUT = httpx.Timeout(30, connect=5)


class Operations(Collecting[J], Reading[J], Managing[J]):
    """What a client can ask for.

    Times are ISO 8601 texts, epoch milliseconds, dates or datetimes, UTC where they do not say; an
    `end` is exclusive. Symbols and timeframes are one text or several. Whatever fails raises
    ApiError.
    """


class Client(Operations[Job], Blocking):
    """A client of the collector at `url`, with or without the API's prefix.

    Without a `url` it is found as the command line finds it: by $DATA_COLLECTOR_URL, the nearest
    .local/endpoints.json, or one's own file. `key`: the API key; else $DATA_COLLECTOR_KEY, or the
    one in the file that names this URL. `auth` takes its place, such as signing.Signed(). Raises
    Unusable for what cannot be a URL or a key. May be shared by threads.

    `transport`, `sleep` (seconds) and `opener` replace the network and the clock.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        auth: httpx.Auth | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        opener: Opener = open_socket,
    ) -> None:
        self._site, options = _settled(url, key, auth)
        http = httpx.Client(transport=transport, timeout=timeout, **options)
        self._sender = Sender(http, sleep, opener)

    def job(self, task_id: str, answer: dict[str, Any] | None = None) -> Job:
        """A task that exists already; nothing is sent."""
        return Job(task_id, answer or {}, self._site, self._sender)

    def close(self) -> None:
        self._sender.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Operations[AsyncJob], Awaiting):
    """The same, made as Client is, in an event loop: methods are awaited, and lists come by
    `async for`.

    >>> async def collect():
    ...     async with AsyncClient() as client:
    ...         job = await client.start(["BTCUSDT"], ["1h"])
    ...         return await job.wait()
    >>> asyncio.run(collect())["status"]
    'completed'
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        auth: httpx.Auth | None = None,
        timeout: httpx.Timeout | float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        opener: AwaitedOpener = open_awaited_socket,
    ) -> None:
        self._site, options = _settled(url, key, auth)
        http = httpx.AsyncClient(transport=transport, timeout=timeout, **options)
        self._sender = AwaitingSender(http, sleep, opener)

    def job(self, task_id: str, answer: dict[str, Any] | None = None) -> AsyncJob:
        """A task that exists already; nothing is sent."""
        return AsyncJob(task_id, answer or {}, self._site, self._sender)

    async def aclose(self) -> None:
        await self._sender.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _settled(
    url: str | None, key: str | None, auth: httpx.Auth | None
) -> tuple[Site, dict[str, Any]]:
    """Where the API is, and how httpx is to ask it."""
    found = find_url(url, os.environ, Path.cwd())
    base = with_prefix(found)
    try:
        parsed = httpx.URL(base)
    except httpx.InvalidURL as error:
        raise Unusable(f"{found!r} is not an http(s) URL.") from error
    headers = {"Accept": "application/json, application/problem+json"}
    if auth is None and (text := find_key(key, os.environ, Path.cwd(), found)):
        headers["Authorization"] = f"Bearer {_checked(text)}"
    options = {"auth": auth, "trust_env": not is_loopback(parsed.host), "headers": headers}
    return Site(base, str(parsed.copy_with(userinfo=b""))), options


def _checked(key: str) -> str:
    text = key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise Unusable("The API key has characters that no key has.")
    return text

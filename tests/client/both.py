"""One script of an API, played to a Client and to an AsyncClient: both must do the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from market_data_collector import ApiError, AsyncClient, Client
from tests.cli.fake_api import FakeApi, Reply

URL = "http://api.test"
ERRORS = (ApiError, ValueError, TimeoutError)
Use = Callable[[Any], Any]


class Awaited(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return self._transport.handle_request(request)


@dataclass
class Done:
    """`answer`: what came, lists whole; or the error that was raised."""

    answer: Any
    api: FakeApi
    slept: list[float]


def blocking(use: Use, script: dict[str, Iterable[Reply]] | None = None) -> Done:
    fake, slept = FakeApi(script), []
    with Client(URL, transport=fake, sleep=slept.append) as client:
        try:
            answer = use(client)
            answer = [*answer] if inspect.isgenerator(answer) else answer
        except ERRORS as error:
            answer = error
    return Done(answer, fake, slept)


def awaiting(use: Use, script: dict[str, Iterable[Reply]] | None = None) -> Done:
    fake, slept = FakeApi(script), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def play() -> Any:
        async with AsyncClient(URL, transport=Awaited(fake), sleep=sleep) as client:
            try:
                answer = use(client)
                if inspect.isasyncgen(answer):
                    return [each async for each in answer]
                return await answer
            except ERRORS as error:
                return error

    return Done(asyncio.run(play()), fake, slept)


WAYS = (blocking, awaiting)

"""Two ways to play an operation: at once, and awaiting. Nothing here knows what is sent."""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import Any, TypeVar

import httpx

from market_data_collector.effects import (
    FAULTS,
    Effect,
    Ended,
    Flow,
    Hear,
    Item,
    Open,
    Pause,
    Plan,
    Say,
    Send,
    Tell,
    following,
)
from market_data_collector.sockets import (
    AwaitedOpener,
    Opener,
    open_awaited_socket,
    open_socket,
)

T = TypeVar("T")


class Sender:
    """Plays operations at once. `sleep` takes seconds."""

    def __init__(
        self,
        http: httpx.Client,
        sleep: Callable[[float], None] = time.sleep,
        opener: Opener = open_socket,
    ) -> None:
        self.http, self._sleep, self._opener = http, sleep, opener

    def run(self, plan: Plan[T]) -> T:
        with closing(self._play(plan)) as played:
            for step in played:
                if isinstance(step, Ended):
                    answer: T = step.value
                    return answer
        raise AssertionError("an operation ends")

    def flow(self, plan: Flow[T]) -> Generator[T, None, None]:
        with closing(self._play(plan)) as played:
            for step in played:
                if isinstance(step, Item):
                    yield step.value

    def _play(
        self, plan: Generator[Any, Any, Any]
    ) -> Generator[Item[Any] | Ended[Any], None, None]:
        came, fault = None, None
        with closing(plan), ExitStack() as held:
            while True:
                asked = following(plan, came, fault)
                came, fault = None, None
                if isinstance(asked, Item | Ended):
                    yield asked
                    if isinstance(asked, Ended):
                        return
                    continue
                try:
                    came = self._done(asked, held)
                except FAULTS as error:
                    fault = error

    def _done(self, effect: Effect, held: ExitStack) -> Any:
        match effect:
            case Send():
                return self.http.request(**_request(effect))
            case Pause(seconds):
                return self._sleep(seconds)
            case Tell(listener, value):
                return listener(value)
            case Open(url):
                held.close()
                return held.enter_context(self._opener(url))
            case Say(socket, text):
                return socket.send(text)
            case Hear(socket, seconds):
                return socket.recv(timeout=seconds)


class AwaitingSender:
    """Plays operations in an event loop. `sleep` takes seconds."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        opener: AwaitedOpener = open_awaited_socket,
    ) -> None:
        self.http, self._sleep, self._opener = http, sleep, opener

    async def run(self, plan: Plan[T]) -> T:
        async with aclosing(self._play(plan)) as played:
            async for step in played:
                if isinstance(step, Ended):
                    answer: T = step.value
                    return answer
        raise AssertionError("an operation ends")

    async def flow(self, plan: Flow[T]) -> AsyncGenerator[T, None]:
        async with aclosing(self._play(plan)) as played:
            async for step in played:
                if isinstance(step, Item):
                    yield step.value

    async def _play(
        self, plan: Generator[Any, Any, Any]
    ) -> AsyncGenerator[Item[Any] | Ended[Any], None]:
        came, fault = None, None
        with closing(plan):
            async with AsyncExitStack() as held:
                while True:
                    asked = following(plan, came, fault)
                    came, fault = None, None
                    if isinstance(asked, Item | Ended):
                        yield asked
                        if isinstance(asked, Ended):
                            return
                        continue
                    try:
                        came = await self._done(asked, held)
                    except FAULTS as error:
                        fault = error

    async def _done(self, effect: Effect, held: AsyncExitStack) -> Any:
        match effect:
            case Send():
                return await self.http.request(**_request(effect))
            case Pause(seconds):
                return await self._sleep(seconds)
            case Tell(listener, value):
                told = listener(value)
                return await told if inspect.isawaitable(told) else told
            case Open(url):
                await held.aclose()
                return await held.enter_async_context(self._opener(url))
            case Say(socket, text):
                return await socket.send(text)
            case Hear(socket, seconds):
                async with asyncio.timeout(seconds):
                    return await socket.recv()


def _request(effect: Send) -> dict[str, Any]:
    sent = {"method": effect.method, "url": effect.url, "params": effect.params}
    body = {} if effect.json is None else {"json": effect.json}
    return {**sent, "headers": effect.headers, **body}

"""Where a worker's CPU time goes, by part, in one process and on one thread.

Functions at a few seams are wrapped; what one of them calls is taken from it where it is a seam
itself, so the parts add up to the whole. What the event loop does for a connection counts for the
part that the connection's port belongs to. Each measured call costs some microseconds by itself:
compare the parts with each other, and take the whole from runs without them.
"""

from __future__ import annotations

import asyncio.selector_events
import asyncio.sslproto
from collections.abc import Callable, Generator
from functools import wraps
from inspect import iscoroutinefunction, ismethod
from time import process_time
from types import coroutine
from typing import Any

EXCHANGE, INFLATE, CHECK = "exchange HTTP", "inflate", "decode and check"
ENCODE, AWS, REST = "encode Parquet", "AWS calls", "rest"
PARTS = (EXCHANGE, INFLATE, CHECK, ENCODE, AWS, REST)


def seams() -> list[tuple[Any, str, str]]:
    """(module or class, function, part): all that has to follow when the worker's code moves."""
    from chalicelib.candles import store as candle_store
    from chalicelib.collecting import fetch, store
    from chalicelib.core import http
    from chalicelib.exchange import binance

    return [
        (binance.Binance, "klines", EXCHANGE),
        (http, "_decoded", INFLATE),
        (binance, "klines_in", CHECK),
        (fetch, "_taken", CHECK),
        (store, "closed_candles", CHECK),
        (store, "merged", CHECK),
        (candle_store, "merged", CHECK),
        (candle_store, "encode", ENCODE),
    ]


class Parts:
    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._stack = [REST]
        self._since = 0.0
        self.reset()

    def reset(self) -> None:
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._since = process_time()

    def spent(self) -> dict[str, float]:
        """CPU seconds by part since the last `reset`; what is at no seam is the rest."""
        self._note()
        return dict(self._spent)

    def enter(self, part: str) -> None:
        self._note()
        self._stack.append(part)

    def leave(self) -> None:
        self._note()
        self._stack.pop()

    def _note(self) -> None:
        now = process_time()
        self._spent[self._stack[-1]] += now - self._since
        self._since = now

    def install(self, ports: dict[int, str]) -> None:
        """Wrap the seams; `ports`: what connections to these ports belong to."""
        for owner, name, part in seams():
            function = getattr(owner, name)
            wrap = self.measured_steps if iscoroutinefunction(function) else self.measured
            setattr(owner, name, wrap(function, part))
        transport = asyncio.selector_events._SelectorSocketTransport
        tls = asyncio.sslproto._SSLProtocolTransport
        for owner, names in ((transport, _READY), (tls, _WRITE)):
            for name in names:
                setattr(owner, name, self._of_connection(getattr(owner, name), ports))

    def measured(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, with its time counted for `part`."""

        @wraps(function)
        def called(*given: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return function(*given, **named)
            finally:
                self.leave()

        return called

    def measured_steps(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The same of a coroutine function; what it waits for is not counted."""

        async def steps(*given: Any, **named: Any) -> Any:
            # What permits a request is ours, and no part of the exchange's client.
            ours = (self.measured_steps(one, REST) if ismethod(one) else one for one in given)
            return await self._driven(work(*ours, **named), part)

        return steps

    @coroutine
    def _driven(self, work: Any, part: str) -> Generator[Any, Any, Any]:
        step, value = work.send, None
        while True:
            self.enter(part)
            try:
                awaited = step(value)
            except StopIteration as done:
                return done.value
            finally:
                self.leave()
            try:
                step, value = work.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's, cancelling too
                step, value = work.throw, error

    def _of_connection(
        self, method: Callable[..., Any], ports: dict[int, str]
    ) -> Callable[..., Any]:
        @wraps(method)
        def called(transport: Any, *given: Any) -> Any:
            peer = transport.get_extra_info("peername")
            self.enter(ports.get(peer[1], REST) if peer else REST)
            try:
                return method(transport, *given)
            finally:
                self.leave()

        return called


_READY = ("_read_ready", "_write_ready")
_WRITE = ("write", "writelines")

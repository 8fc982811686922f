"""What an operation asks its sender to do.

An operation is described once, as a generator: it yields what is to be done, is sent what came of
it, and returns its answer. Who plays it, at once or awaiting, is the sender's matter (senders.py).
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from websockets.exceptions import WebSocketException

T = TypeVar("T")


class Unheard(Exception):
    """The WebSocket cannot be reached, or not any more; the message says why."""


@dataclass(frozen=True)
class Send:
    """Comes to an httpx.Response, or raises httpx.RequestError."""

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Tell:
    """Calls a listener with a value; an awaiting sender awaits what it returns, if it can be."""

    listener: Callable[[Any], Any]
    value: Any


@dataclass(frozen=True)
class Open:
    """Comes to a WebSocket, in the place of the one before. Raises Unheard."""

    url: str


@dataclass(frozen=True)
class Say:
    """A message into a WebSocket."""

    socket: Any
    text: str


@dataclass(frozen=True)
class Hear:
    """Comes to the next message of a WebSocket, or raises TimeoutError after `seconds`."""

    socket: Any
    seconds: float


@dataclass(frozen=True)
class Item(Generic[T]):
    """One of the values of a stream."""

    value: T


@dataclass(frozen=True)
class Ended(Generic[T]):
    """The operation has returned."""

    value: T


Effect = Send | Pause | Tell | Open | Say | Hear
#: An operation with one answer, and one with a stream of values.
Plan = Generator[Effect, Any, T]
Flow = Generator[Effect | Item[T], Any, None]

#: What doing an effect may raise: it goes into the operation, which knows what it means. OSError
#: has TimeoutError in it.
FAULTS = (httpx.RequestError, WebSocketException, OSError, Unheard)


def following(
    plan: Generator[Any, Any, Any], came: Any, fault: BaseException | None
) -> Effect | Item[Any] | Ended[Any]:
    """What an operation asks for next, after what came of its last effect."""
    try:
        asked: Effect | Item[Any] = plan.send(came) if fault is None else plan.throw(fault)
    except StopIteration as end:
        return Ended(end.value)
    return asked

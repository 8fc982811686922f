"""WebSockets, opened at once or awaiting; both say alike why they cannot be."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import connect as connect_awaiting
from websockets.exceptions import InvalidURI, WebSocketException
from websockets.sync.client import connect

from market_data_collector.effects import Unheard
from market_data_collector.locate import is_loopback

# Seconds.
_OPEN_WITHIN, _CLOSE_WITHIN = 10.0, 2.0


class Socket(Protocol):
    def send(self, message: str) -> None: ...

    def recv(self, timeout: float) -> str | bytes: ...


class AwaitedSocket(Protocol):
    async def send(self, message: str) -> None: ...

    async def recv(self) -> str | bytes: ...


Opener = Callable[[str], AbstractContextManager[Socket]]
AwaitedOpener = Callable[[str], AbstractAsyncContextManager[AwaitedSocket]]


@contextmanager
def open_socket(url: str) -> Iterator[Socket]:
    """Open for the block. Raises Unheard where it cannot be opened."""
    with _said(url):
        socket = connect(url, **_options(url))
    with socket:
        yield socket


@asynccontextmanager
async def open_awaited_socket(url: str) -> AsyncIterator[AwaitedSocket]:
    """Open for the block. Raises Unheard where it cannot be opened."""
    with _said(url):
        socket = await connect_awaiting(url, **_options(url))
    async with socket:
        yield socket


def _options(url: str) -> dict[str, Any]:
    """A proxy of the environment is not asked for what is on this machine."""
    through: Literal[True] | None = None if is_loopback(urlsplit(url).hostname or "") else True
    return {"proxy": through, "open_timeout": _OPEN_WITHIN, "close_timeout": _CLOSE_WITHIN}


@contextmanager
def _said(url: str) -> Iterator[None]:
    there = url.partition("?")[0]  # what is said never holds the ticket
    try:
        yield
    except InvalidURI as error:
        raise Unheard(f"{there}: {error.msg}") from error
    # ValueError: a port that is none. ImportError: a proxy whose kind needs another library.
    except (OSError, WebSocketException, ValueError, ImportError) as error:
        raise Unheard(f"{there}: {error}") from error

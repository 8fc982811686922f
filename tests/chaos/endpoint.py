"""A TCP endpoint in front of the embedded cloud that can refuse connections for a while."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from local.ports import free_port

_CHUNK = 1 << 16


class Endpoint:
    """Forwards to a port of this machine, until told to refuse.

    The functions' AWS calls pass here; the tests' own go to the embedded cloud directly.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        #: How long it refused, each time, in seconds; connections made, and cut while open.
        self.refusals: list[float] = []
        self.connections = 0
        self.cut = 0
        self._target = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def forward_to(self, port: int) -> None:
        """Begin to listen."""
        self._target = port
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def refuse(self, seconds: float) -> None:
        """Cut every connection and refuse new ones for `seconds`; returns when they are over."""
        asyncio.run_coroutine_threadsafe(self._refuse(seconds), self._loop).result()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._forward, "127.0.0.1", self.port, backlog=256
        )

    async def _refuse(self, seconds: float) -> None:
        self._stop_listening()
        self.cut += len(self._open) // 2  # both ends of each
        self._abort()
        await asyncio.sleep(seconds)
        await self._listen()
        self.refusals.append(seconds)

    async def _close(self) -> None:
        self._stop_listening()
        self._abort()
        await asyncio.sleep(0.1)  # the forwarding tasks end of their own

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _abort(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, up_writer}
        try:
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            self._open -= {writer, up_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes from one side to the other; where either ends, both sides of this direction do."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
    else:
        writer.close()

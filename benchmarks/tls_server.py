"""A web application over TLS, in a process of its own: its work is not that of what it serves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from benchmarks import certificate


@contextmanager
def served(
    folder: Path, make_app: Callable[..., web.Application], *arguments: str
) -> Iterator[str]:
    """The root URL, while the server runs; its clients need the bundle in `folder`.

    `make_app` is a module's own function: the other process imports it.
    """
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    given = (folder, theirs, make_app, arguments)
    process = spawn.Process(target=_main, args=given, daemon=True)
    process.start()
    theirs.close()  # so that a server which ends before it serves ends the wait for it
    try:
        yield f"https://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _main(
    folder: Path,
    parent: Connection,
    make_app: Callable[..., web.Application],
    arguments: tuple[str, ...],
) -> None:
    context = certificate.server_context(folder)
    # One server may be another's client.
    os.environ["SSL_CERT_FILE"] = str(certificate.bundle(folder))
    asyncio.run(_serve(context, parent, make_app(*arguments)))


async def _serve(context: ssl.SSLContext, parent: Connection, app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    parent.send(runner.addresses[0][1])
    await asyncio.Event().wait()

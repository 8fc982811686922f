"""Pushing one update to a thousand clients: two ways to send, and the AWS calls that it takes.

The stand-in for API Gateway answers each request after 15 ms, which is what PostToConnection takes
within a region; it runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from aiohttp import web

from benchmarks.report import Report
from benchmarks.simulated import new_aws, settings
from chalicelib.aws.calls import run
from chalicelib.aws.sdk_calls import SdkCalls
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.aws.stream import change_of
from chalicelib.aws.thread_pool import ThreadPool
from chalicelib.core.backend import Backend
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.live import receive
from chalicelib.live.announce import announce
from chalicelib.live.push import Means, push_batch
from tests.doubles.clock import Clock, SimulatedLoop

CLIENTS = 1000
DELAY_S = 0.015
ROUNDS = 5
_SERVICE, _POST = "apigatewaymanagementapi", "PostToConnection"
_TEXT = json.dumps({"type": "update", "task": {"message": "x" * 600}}).encode()


def measure() -> Report:
    report = Report(
        f"pushes: one update to {CLIENTS:,} clients",
        ("how", "threads or connections", "ms", "CPU ms", "CPU ms a message"),
    )
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    with _gateway() as url:
        ways: list[tuple[str, int, Callable[[str, int], list[tuple[float, float]]]]] = [
            *(("threads, SignedCalls", many, _by_threads) for many in (32, 64, 128)),
            *(("asyncio, aiobotocore", many, _by_loop) for many in (64, 128)),
        ]
        for name, many, way in ways:
            times = way(url, many)
            wall = statistics.median(each[0] for each in times) * 1000
            cpu = statistics.median(each[1] for each in times) * 1000
            report.add(name, str(many), f"{wall:.0f}", f"{cpu:.0f}", f"{cpu / CLIENTS:.2f}")
    report.remarks.append(
        f"each request is answered after {DELAY_S * 1000:.0f} ms by another process; median of "
        f"{ROUNDS} rounds after one to warm up"
    )
    for listeners in (0, 1, CLIENTS):
        report.remarks.append(f"AWS calls with {listeners:,} listeners: {_calls(listeners)}")
    return report


def _by_threads(url: str, many: int) -> list[tuple[float, float]]:
    call, threads = SignedCalls({_SERVICE: url}), ThreadPool(many)

    def once() -> None:
        work = [call(_SERVICE, _POST, ConnectionId=f"c{at}", Data=_TEXT) for at in range(CLIENTS)]
        run(threads.together(work))

    return [_timed(once) for _ in range(ROUNDS + 1)][1:]


def _by_loop(url: str, many: int) -> list[tuple[float, float]]:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    with asyncio.Runner() as loop:

        async def opened() -> SdkCalls:
            call = SdkCalls()
            context = get_session().create_client(
                _SERVICE, endpoint_url=url, config=AioConfig(max_pool_connections=many)
            )
            call._clients[_SERVICE] = await context.__aenter__()
            return call

        call = loop.run(opened())

        async def once() -> None:
            turn = asyncio.Semaphore(many)

            async def send(at: int) -> None:
                async with turn:
                    await call(_SERVICE, _POST, ConnectionId=f"c{at}", Data=_TEXT)

            await together(*(send(at) for at in range(CLIENTS)))

        times = [_timed(lambda: loop.run(once())) for _ in range(ROUNDS + 1)][1:]
        loop.run(call.aclose())
    return times


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall time, and of processor time of this process."""
    used, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def _calls(listeners: int) -> str:
    """What one change of a price costs, counted on the AWS in memory."""
    clock = Clock()
    loop = SimulatedLoop(clock)
    aws = new_aws(clock)
    backend = Backend(aws, settings(), clock)
    means = Means(lambda work: together(*work), asyncio.sleep, None)  # type: ignore[arg-type]

    async def play() -> None:
        await CatalogueTable(backend).write_catalogue({"BTCUSDT": "TRADING"}, 6000, clock())
        body = '{"action": "subscribe", "topics": ["prices:BTCUSDT"]}'
        for at in range(listeners):
            await receive.connect(backend, f"c{at}")
            await receive.receive(backend, None, f"c{at}", body)  # type: ignore[arg-type]
        await CatalogueTable(backend).write_prices({"BTCUSDT": "1"}, clock())
        aws.counts.clear()
        records = aws.stream_event(settings().market_table)["Records"][-1:]
        await announce(backend, [change_of(record) for record in records])
        while found := aws.sqs.receive(settings().push_queue_url):
            await push_batch(backend, means, {"Records": found})

    loop.run_until_complete(play())
    loop.close()
    return ", ".join(f"{name} {count}" for name, count in sorted(aws.counts.items()))


@contextmanager
def _gateway() -> Iterator[str]:
    """The root URL of the stand-in, while it runs."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_main, args=(theirs,), daemon=True
    )
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _main(parent: Connection) -> None:
    asyncio.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(DELAY_S)
        return web.Response()

    app = web.Application()
    app.router.add_post("/@connections/{name}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    parent.send(runner.addresses[0][1])
    await asyncio.Event().wait()

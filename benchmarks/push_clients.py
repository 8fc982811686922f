"""From a change to the last of a thousand WebSocket clients, on the embedded cloud.

Everything is on this machine: the clients, the cloud and its functions share its cores. The clients
are real connections over loopback, all listening to one topic; what changes is the stored prices.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.report import Report
from chalicelib.aws.wire import item_to_wire
from chalicelib.exchange.catalogue_table import packed
from market_data_collector.client import Client
from market_data_collector.jobs import ENDED
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.waiting import until

CLIENTS = (1, 100, 1000)
ROUNDS = 8
_AT_ONCE = 25
TOPIC = "prices:BTCUSDT"


def measure() -> Report:
    report = Report(
        "push_clients: from a change to the last client, on the embedded cloud",
        ("clients", "first client, ms", "last client, ms", "slowest round, ms", "lost"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as home,
        running_cloud(Path(home), {"LOG_LEVEL": "WARNING"}) as cloud,
    ):
        with Client(cloud.api_url) as api:
            refresh = api.refresh_symbols().task_id
            until(lambda: api.task(refresh), lambda task: task["status"] in ENDED)
        for clients in CLIENTS:
            rounds = asyncio.run(_listen(cloud, clients))
            firsts, lasts = [one[0] for one in rounds], [one[1] for one in rounds]
            report.add(
                f"{clients:,}",
                f"{statistics.median(firsts):.0f}",
                f"{statistics.median(lasts):.0f}",
                f"{max(lasts):.0f}",
                str(sum(one[2] for one in rounds)),
            )
    report.remarks.append(
        f"median of {ROUNDS} changes after one to warm up; from before the write of the prices to "
        "the message's arrival, through the stream, the queue and the functions"
    )
    return report


async def _listen(cloud: Cloud, clients: int) -> list[tuple[float, float, int]]:
    """Per change: ms to the first and to the last client, and how many never got it."""
    heard: dict[str, list[float]] = {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        turn = asyncio.Semaphore(_AT_ONCE)
        sockets = await asyncio.gather(*(_client(session, cloud, turn) for _ in range(clients)))
        readers = [asyncio.ensure_future(_read(socket, heard)) for socket in sockets]
        rounds = []
        for _ in range(ROUNDS + 1):
            price, began = await asyncio.to_thread(_change, cloud)
            deadline = time.monotonic() + 30
            # The readers note times themselves; nothing hangs on when this loop looks.
            while len(heard.get(price, [])) < clients and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            times = [(at - began) * 1000 for at in heard[price]]
            rounds.append((min(times), max(times), clients - len(times)))
            await asyncio.sleep(0.5)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for start in range(0, clients, _AT_ONCE):
            await asyncio.gather(*(one.close() for one in sockets[start : start + _AT_ONCE]))
    return rounds[1:]


async def _client(
    session: aiohttp.ClientSession, cloud: Cloud, turn: asyncio.Semaphore
) -> aiohttp.ClientWebSocketResponse:
    async with turn:
        socket = await session.ws_connect(cloud.ws_url, compress=0)
        await socket.send_json({"action": "subscribe", "topics": [TOPIC]})
        while (await socket.receive_json(timeout=60))["type"] != "snapshot":
            pass
        return socket


async def _read(socket: aiohttp.ClientWebSocketResponse, heard: dict[str, list[float]]) -> None:
    async for message in socket:
        now, update = time.time(), json.loads(message.data)
        if update["type"] == "update":
            heard.setdefault(repr(update["price"]), []).append(now)


def _change(cloud: Cloud) -> tuple[str, float]:
    """Store a price that was never stored before; returns it, and when that began."""
    price, at_ms = time.time_ns() // 1000 % 10**9 / 100, int(time.time() * 1000)
    item: dict[str, Any] = item_to_wire(
        {
            "pk": "PRICES#local",
            "sk": "PRICES",
            "prices": packed({"BTCUSDT": repr(price)}),
            "priced_at": at_ms,
        }
    )
    client = cloud.client("dynamodb")
    began = time.time()
    client.put_item(TableName=cloud.outputs["MarketTable"], Item=item)
    return repr(price), began

"""WebSocket clients of the packaged application."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from chalicelib.aws.wire import item_from_wire, to_wire
from infra.package import ROOT
from market_data_collector.cli.__main__ import main
from market_data_collector.client import Client as Collector
from tests.chaos import workers
from tests.doubles.listener import Listener
from tests.e2e.conftest import Cloud
from tests.e2e.waiting import ENDED, ended, until

SYMBOLS = ["BTCUSDT", "ETHUSDT", "ADAUSDT", "SOLUSDT", "XRPUSDT"]
#: So that what a killed worker held comes back within the test's patience.
VISIBILITY_S = 10

Message = dict[str, Any]


class Client:
    """A connection, and what came over it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.heard: list[Message] = []

    def say(self, action: str, *topics: str) -> None:
        self._socket.send(json.dumps({"action": action, "topics": list(topics)}))

    def hear(self, seconds: float = 30) -> Message:
        message: Message = json.loads(self._socket.recv(timeout=seconds))
        self.heard.append(message)
        return message

    def until(self, done: Callable[[Message], bool], seconds: float = 90) -> Message:
        deadline = time.monotonic() + seconds
        while True:
            message = self.hear(max(0.1, deadline - time.monotonic()))
            if done(message):
                return message


@contextmanager
def client(cloud: Cloud, *topics: str, query: str = "") -> Iterator[Client]:
    """Connected and, with topics, subscribed: every snapshot has come."""
    with connect(cloud.ws_url + query, proxy=None, close_timeout=2) as socket:
        one = Client(socket)
        if topics:
            one.say("subscribe", *topics)
            while {m["topic"] for m in one.heard if m["type"] == "snapshot"} != set(topics):
                assert one.hear()["type"] != "error", one.heard
        yield one


@pytest.fixture
def short_visibility(cloud: Cloud) -> Iterator[None]:
    queues, names = cloud.client("sqs"), ("PlanQueue", "UrgentQueue", "WorkQueue")
    urls = [cloud.outputs[name] for name in names]
    wanted = ["VisibilityTimeout"]
    before = [
        queues.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]
        for url in urls
    ]
    for url in urls:
        queues.set_queue_attributes(
            QueueUrl=url, Attributes={"VisibilityTimeout": str(VISIBILITY_S)}
        )
    yield
    for url, attributes in zip(urls, before, strict=True):
        queues.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def rows(cloud: Cloud) -> list[Message]:
    found = cloud.client("dynamodb").scan(TableName=cloud.outputs["ConnectionsTable"])
    return [item_from_wire(item) for item in found["Items"]]


def newest_connection(cloud: Cloud) -> str:
    """The key of its rows."""
    found = [row for row in rows(cloud) if row["sk"] == "CONN"]
    key: str = max(found, key=lambda row: row["connected_at"])["pk"]
    return key


def test_every_state_is_seen_in_growing_numbers_while_workers_are_killed(
    cloud: Cloud, api: Collector, short_visibility: None
) -> None:
    over, killed = threading.Event(), []

    def kill() -> None:
        while not over.wait(0.3) and len(killed) < 2:
            for worker in workers.running(cloud.cloud_process.pid):
                if worker.function == "Collect" and workers.kill(worker, cloud.cloud_process.pid):
                    killed.append(worker.pid)
                    break

    killer = threading.Thread(target=kill)
    with client(cloud, "tasks") as one:
        killer.start()
        try:
            task_id = api.start(SYMBOLS, ["1m", "5m", "1h"], force=True).task_id
            views: list[Message] = []
            while not views or views[-1]["status"] not in ENDED:
                message = one.hear(120)
                views += [view for view in message["tasks"] if view["task_id"] == task_id]
        finally:
            over.set()
            killer.join()
    assert killed, "no worker was at work when one should be killed"
    states = list(dict.fromkeys(view["status"] for view in views))
    assert states == ["pending", "running", "completed"]
    progress = [view["progress"] for view in views]
    assert progress == sorted(progress)
    units = views[-1]["units"]  # more than 15 where some of it was stored long ago
    assert units["succeeded"] == units["total"] >= 15
    (begin,) = [m["sequence"] for m in one.heard if m["type"] == "snapshot"]
    updates = [m["sequence"] for m in one.heard if m["type"] == "update"]
    numbers = [number for number in updates if number > begin]
    assert numbers == list(range(begin + 1, begin + 1 + len(numbers)))
    print(f"{len(killed)} workers killed, {len(numbers)} updates, progress {progress}")


def test_a_task_prices_and_candles_are_heard_over_one_connection(
    cloud: Cloud, api: Collector
) -> None:
    # One that no other test collects.
    symbol = api.stats()["data_collector_status"]["available_symbols"][0]
    prices, candles, others = (f"prices:{symbol}", f"candles:{symbol}:15m", f"candles:{symbol}:1d")
    with client(cloud, prices, candles, others) as one:
        price = next(m for m in one.heard if m.get("topic") == prices)
        task_id = api.start([symbol], ["15m"], force=True).task_id
        one.say("subscribe", f"task:{task_id}")
        update = one.until(lambda m: m["type"] == "update" and m["topic"] == candles)
        assert update["candle"]["low"] <= update["candle"]["close"] <= update["candle"]["high"]
        assert update["covered"]["end"] > update["candle"]["open_time"]
        listener = Listener(f"task:{task_id}")
        for message in one.heard:
            listener.hear(message)
        while not listener.kept or listener.kept[-1]["task"]["status"] not in ENDED:
            listener.hear(one.hear())
        assert listener.holes == []
        assert listener.kept[-1]["task"]["status"] == "completed"
        cloud.invoke("RefreshPrices", {})
        fresh = one.until(lambda m: m["type"] == "update" and m["topic"] == prices)
        assert (fresh["time"], fresh["sequence"]) > (price["time"] or "", price["sequence"])
    assert [m["type"] for m in one.heard if m.get("topic") == others] == ["snapshot"]


def test_a_snapshot_comes_again_when_asked_for_and_nothing_after_unsubscribing(
    cloud: Cloud, api: Collector
) -> None:
    with client(cloud, "tasks") as one, client(cloud, "tasks") as other:
        one.say("snapshot", "tasks")
        assert one.hear()["type"] == "snapshot"
        one.say("unsubscribe", "tasks")
        assert one.hear()["type"] == "unsubscribed"
        task_id = api.refresh_symbols().task_id
        other.until(lambda m: any(view["task_id"] == task_id for view in m["tasks"]))
        one.say("ping")
        assert one.hear() == {"type": "pong"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no JSON", "INVALID_JSON"),
        ('{"action": "dance"}', "UNKNOWN_ACTION"),
        ('{"action": "subscribe", "topics": ["weather"]}', "UNKNOWN_TOPIC"),
        ('{"action": "subscribe", "topics": ["prices:NOPE"]}', "UNKNOWN_SYMBOL"),
        ('{"action": "subscribe", "topics": ["task:nope"]}', "TASK_NOT_FOUND"),
        ('{"action": "ping", "x": "' + "x" * 20_000 + '"}', "MESSAGE_TOO_LARGE"),
    ],
)
def test_what_is_wrong_is_told(cloud: Cloud, api: Collector, message: str, reason: str) -> None:
    with client(cloud) as one:
        one._socket.send(message)
        answer = one.hear()
        assert (answer["type"], answer["reason"]) == ("error", reason)


def test_a_ticket_connects_once_and_a_wrong_one_is_refused(cloud: Cloud, api: Collector) -> None:
    ticket = api.ws_ticket()["ticket"]
    with client(cloud, query=f"?ticket={ticket}") as one:
        one.say("ping")
        assert one.hear() == {"type": "pong"}
    for wrong in (ticket, "wrong"):
        with pytest.raises(InvalidStatus) as refused, client(cloud, query=f"?ticket={wrong}"):
            pass
        # AWS hands on our 401; the embedded cloud makes every refusal a 403.
        assert refused.value.response.status_code in (401, 403)


def test_a_client_that_leaves_is_forgotten_at_once(cloud: Cloud, api: Collector) -> None:
    with client(cloud, "tasks", "prices:BTCUSDT"):
        mine = newest_connection(cloud)
    until(
        lambda: [row for row in rows(cloud) if mine in (row["pk"], row["sk"])],
        lambda seen: not seen,
        30,
    )


def test_a_connection_that_is_gone_or_expired_is_forgotten(cloud: Cloud, api: Collector) -> None:
    table, store = cloud.outputs["ConnectionsTable"], cloud.client("dynamodb")
    far = int(time.time()) + 3600
    listener = {"pk": to_wire("TOPIC#tasks"), "sk": to_wire("CONN#gone"), "ttl": to_wire(far)}
    store.put_item(TableName=table, Item=listener)
    with client(cloud, "tasks") as one:
        mine = newest_connection(cloud)
        task_id = api.refresh_symbols().task_id
        one.until(lambda m: any(view["task_id"] == task_id for view in m["tasks"]))
        until(lambda: rows(cloud), lambda seen: "CONN#gone" not in {row["sk"] for row in seen}, 30)
        ended(api, task_id)
        # Two hours later:
        for key in ({"pk": mine, "sk": "CONN"}, {"pk": "TOPIC#tasks", "sk": mine}):
            store.update_item(
                TableName=table,
                Key={name: to_wire(value) for name, value in key.items()},
                UpdateExpression="SET #ttl = :past",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":past": to_wire(int(time.time()) - 1)},
            )
        with client(cloud, "tasks") as young:
            later = api.refresh_symbols().task_id
            young.until(lambda m: any(view["task_id"] == later for view in m["tasks"]))
        heard = [view["task_id"] for m in one.heard for view in m.get("tasks", [])]
        assert later not in heard
        one.say("ping")
        while (answer := one.hear())["type"] == "update":
            assert later not in [view["task_id"] for view in answer["tasks"]]
        assert answer["reason"] == "CONNECTION_EXPIRED"


def test_the_pages_client_follows_a_task_to_its_end(
    cloud: Cloud, api: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    page = (ROOT / "docs" / "WEBSOCKET.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.S | re.M)
    (tmp_path / ".local").mkdir()
    here = {"api_url": cloud.api_url, "ws_url": cloud.ws_url}
    (tmp_path / ".local" / "endpoints.json").write_text(json.dumps(here))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/WEBSOCKET.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[1:3] == ["completed", "100"]
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(numbers)


def test_the_command_line_watches_over_the_websocket(cloud: Cloud, api: Collector, capfd) -> None:
    task_id = api.start(["ETHUSDT"], ["1h", "1d"], force=True).task_id
    assert main(["watch", task_id, "--json", "--api-url", cloud.api_url]) == 0
    shown = capfd.readouterr()
    messages = [json.loads(line) for line in shown.out.splitlines()]
    assert messages[-1]["task"]["status"] == "completed"
    assert messages[0]["type"] == "snapshot"
    assert "polling" not in shown.err

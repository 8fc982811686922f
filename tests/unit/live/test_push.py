"""From the push queue to the clients: numbered without holes, paced, every state, no listener
forgotten and none kept that is gone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from chalicelib.access.caller import Caller
from chalicelib.access.key_table import KeyTable
from chalicelib.access.keys import CACHED_MS, create_key, verify
from chalicelib.access.scopes import allowed
from chalicelib.aws.stream import change_of
from chalicelib.candles.store import CandleStore
from chalicelib.core import metrics
from chalicelib.core.errors import CallFailed
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.live import receive
from chalicelib.live.announce import announce
from chalicelib.live.connections import LIFE_SECONDS, ConnectionTable
from chalicelib.live.push import PAUSE_MS, Means, push_batch
from chalicelib.live.tickets import issue_ticket
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import fail_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.states import TERMINAL
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from tests.doubles.aws import Called, Hook
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.coverage import Part, cover
from tests.doubles.faults import Refuse
from tests.doubles.fleet import Crash, Fleet
from tests.doubles.listener import Listener
from tests.doubles.settings import doubled_settings

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}
CLIENTS = 20
POST = "apigatewaymanagementapi.PostToConnection"


class Pushes:
    """Streams, push queue and clients around a worker."""

    def __init__(self, aws, worker) -> None:
        self.aws, self.worker = aws, worker
        self.means = Means(lambda work: together(*work), asyncio.sleep, CandleStore(worker))
        self.announced: dict[str, int] = {}

    async def client(self, name: str, *topics: str) -> None:
        await receive.connect(self.worker, name)
        await self.say(name, "subscribe", *topics)

    async def say(self, name: str, action: str, *topics: str) -> None:
        body = json.dumps({"action": action, "topics": list(topics)})
        await receive.receive(self.worker, CandleStore(self.worker), name, body)

    async def announce(self) -> int:
        """What is new in the streams."""
        total = 0
        for table in (self.worker.settings.tasks_table, self.worker.settings.market_table):
            records = self.aws.stream_event(table, self.announced.get(table, 0))["Records"]
            await announce(self.worker, [change_of(record) for record in records])
            self.announced[table] = self.announced.get(table, 0) + len(records)
            total += len(records)
        return total

    async def push(self, most: int = 10) -> int:
        """One batch of the queue; returns how many messages it held."""
        url = self.worker.settings.push_queue_url
        records = self.aws.sqs.receive(url, most)
        if records:
            answer = await push_batch(self.worker, self.means, {"Records": records})
            failed = {entry["itemIdentifier"] for entry in answer["batchItemFailures"]}
            for record in records:
                if record["messageId"] not in failed:
                    self.aws.sqs.delete(url, record["receiptHandle"])
        return len(records)

    async def push_all(self) -> None:
        while self.aws.sqs.bodies(self.worker.settings.push_queue_url):
            if not await self.push():
                self.aws.clock.advance_to(self.aws.sqs.next_visible_at() or 0)

    def heard(self, name: str) -> list[dict[str, Any]]:
        """What a client was sent since the last look."""
        return [json.loads(text) for to, text in self.aws.sockets.sent if to == name]


@pytest.fixture
def pushes(aws, worker):
    return Pushes(aws, worker)


@pytest.fixture
def known(run, backend, clock):
    run(
        CatalogueTable(backend).write_catalogue(
            {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}, 6000, clock()
        )
    )


def of_type(messages, kind):
    return [message for message in messages if message["type"] == kind]


def test_a_task_is_followed_through_every_state_by_number(run, pushes, worker, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(pushes.client("c", f"task:{task_id}"))
    run(fleet.settle())
    run(pushes.announce())
    run(pushes.push_all())
    (snapshot,) = of_type(pushes.heard("c"), "snapshot")
    updates = of_type(pushes.heard("c"), "update")
    assert snapshot["task"]["status"] == "pending"
    assert [update["task"]["status"] for update in updates] == ["pending", "running", "completed"]
    assert [update["sequence"] for update in updates] == [1, 2, 3]
    assert {tuple(update) for update in updates} == {
        ("type", "topic", "sequence", "at", "task"),
    }


def test_the_list_of_tasks_gets_a_whole_batch_in_one_message(run, pushes, worker, fleet) -> None:
    run(pushes.client("c", "tasks"))
    ids = [run(submit_collection(worker, {**BODY, "force": True}, "me", "r")) for _ in range(3)]
    run(pushes.announce())
    run(pushes.push_all())
    (update,) = of_type(pushes.heard("c"), "update")
    assert [view["task_id"] for view in update["tasks"]] == ids
    assert update["count"] == 3


def test_progress_is_read_when_it_is_pushed(run, pushes, worker, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.plan())
    run(pushes.client("c", f"task:{task_id}"))
    run(fleet.collect(1))
    run(pushes.announce())
    run(pushes.push_all())
    last = of_type(pushes.heard("c"), "update")[-1]
    assert last["task"]["units"] == {
        "total": 4,
        "succeeded": 2,
        "failed": 0,
        "remaining": 2,
        "from_store": 0,
    }
    assert last["task"]["message"].startswith("Collected data for")


@pytest.mark.parametrize("trouble", ["unavailable", "paused"])
def test_what_a_task_waits_for_is_pushed(run, pushes, worker, fleet, exchange, trouble) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.plan())
    run(pushes.client("c", f"task:{task_id}"))
    if trouble == "unavailable":
        exchange.unavailable |= {"BTCUSDT", "ETHUSDT"}
    run(fleet.collect(1))
    if trouble == "paused":
        run(Ledger(worker).pause(worker.now_ms() + 60_000, "HTTP 429"))
    run(pushes.announce())
    run(pushes.push_all())
    last = of_type(pushes.heard("c"), "update")[-1]["task"]
    assert last["message"].startswith(("Retrying", "Waiting for the exchange"))
    assert last["message"] == run(view_task(worker, task_id))["message"]


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_stopped_task_and_its_retry_are_told_with_what_was_counted(
    run, pushes, worker, fleet, end
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.plan())
    run(fleet.collect(1))
    run(pushes.announce())
    run(pushes.push_all())
    run(pushes.client("c", f"task:{task_id}"))
    if end == "cancelled":
        run(cancel_task(worker, task_id))
    else:
        task = run(TaskTable(worker).read(task_id))
        run(fail_task(worker, task, "DEADLINE_EXCEEDED", ""))
    run(pushes.announce())
    run(pushes.push_all())
    views = [update["task"] for update in of_type(pushes.heard("c"), "update")]
    assert [view["status"] for view in views] == [end, end]
    shown = run(view_task(worker, task_id))
    for name, value in views[-1].items():
        assert value == shown[name], name
    assert shown["units"]["succeeded"] == 2
    run(retry_task(worker, task_id))
    run(fleet.plan())
    run(pushes.announce())
    run(pushes.push_all())
    run(fleet.settle())
    run(pushes.announce())
    run(pushes.push_all())
    views = [update["task"] for update in of_type(pushes.heard("c"), "update")]
    states = dict.fromkeys(view["status"] for view in views)
    assert list(states) == [end, "pending", "running", "completed"]
    progress = [view["progress"] for view in views]
    assert progress == sorted(progress)
    assert progress[0] == 50


def test_progress_of_a_task_that_has_moved_on_says_nothing(run, pushes, worker, fleet, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.plan())
    run(pushes.client("c", f"task:{task_id}"))
    run(pushes.announce())
    run(fleet.collect(1))
    run(pushes.announce())
    run(fleet.collect())  # its end is not announced yet
    run(pushes.push_all())
    states = [one["task"]["status"] for one in of_type(pushes.heard("c"), "update")]
    assert "completed" not in states
    run(pushes.announce())
    run(pushes.push_all())
    assert of_type(pushes.heard("c"), "update")[-1]["task"]["status"] == "completed"


def test_prices_and_candles_are_pushed_as_they_are_stored(
    run, pushes, worker, fleet, clock, known
) -> None:
    run(pushes.client("c", "prices:BTCUSDT", "candles:BTCUSDT:1d", "candles:ETHUSDT:1m"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "62000.5", "ETHUSDT": "3000"}, clock()))
    run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    run(pushes.announce())
    run(pushes.push_all())
    by_topic = {message["topic"]: message for message in of_type(pushes.heard("c"), "update")}
    assert set(by_topic) == {"prices:BTCUSDT", "candles:BTCUSDT:1d"}
    price = by_topic["prices:BTCUSDT"]
    assert (price["price"], price["time"]) == (62000.5, "2026-03-04T05:06:07.890Z")
    candles = by_topic["candles:BTCUSDT:1d"]
    assert candles["candle"]["open_time"] == "2026-03-03T00:00:00.000Z"
    assert candles["covered"]["end"] == "2026-03-04T00:00:00.000Z"


def test_a_burst_goes_out_four_times_a_second(run, pushes, worker, clock, known) -> None:
    run(pushes.client("c", "prices:BTCUSDT"))
    began = clock()
    for price in range(30):
        run(CatalogueTable(worker).write_prices({"BTCUSDT": str(price)}, clock()))
        run(pushes.announce())
        clock.advance(20)
        run(pushes.push(1))
    run(pushes.push_all())
    times = [message["at"] for message in of_type(pushes.heard("c"), "update")]
    assert len(times) <= (clock() - began) / PAUSE_MS + 1
    assert times == sorted(set(times))
    assert of_type(pushes.heard("c"), "update")[-1]["price"] == 29


def test_states_are_paced_but_none_is_dropped(run, pushes, worker, fleet, clock) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(pushes.client("c", f"task:{task_id}"))
    run(fleet.settle())
    run(pushes.announce())
    began = clock()
    run(pushes.push_all())
    assert len(of_type(pushes.heard("c"), "update")) == 3
    assert clock() - began >= 2 * PAUSE_MS


def test_a_connection_that_is_gone_is_forgotten_and_stops_nobody(
    run, pushes, worker, aws, settings, clock, known
) -> None:
    for name in ("gone", "here"):
        run(pushes.client(name, "prices:BTCUSDT", "tasks"))
    aws.sockets.gone.add("gone")
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "1"}, clock()))
    run(pushes.announce())
    run(pushes.push_all())
    assert of_type(pushes.heard("here"), "update")
    rows = [str(row["pk"]) + str(row["sk"]) for row in aws.items(settings.connections_table)]
    assert not [row for row in rows if "gone" in row]


def test_an_expired_connection_is_sent_nothing(run, pushes, worker, clock, known) -> None:
    run(pushes.client("old", "prices:BTCUSDT"))
    clock.advance(LIFE_SECONDS * 1000)
    run(pushes.client("new", "prices:BTCUSDT"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "1"}, clock()))
    run(pushes.announce())
    run(pushes.push_all())
    assert not of_type(pushes.heard("old"), "update")
    assert of_type(pushes.heard("new"), "update")


def test_a_topic_that_nobody_listens_to_any_more_is_not_announced(
    run, pushes, worker, aws, clock, known
) -> None:
    run(pushes.client("c", "prices:BTCUSDT"))
    run(receive.disconnect(worker, "c"))
    for _ in range(3):
        run(CatalogueTable(worker).write_prices({"BTCUSDT": str(clock())}, clock()))
        clock.advance(1000)
        aws.counts.clear()
        run(pushes.announce())
        run(pushes.push_all())
    assert aws.counts["sqs.SendMessageBatch"] == 0
    assert run(ConnectionTable(worker).listened("market", clock())) == set()


def test_who_alone_could_not_be_reached_is_hung_up_on(
    run, pushes, worker, aws, clock, known
) -> None:
    """It may have been the topic's last update, behind which no number tells of the loss."""
    for name in ("one", "two", "three"):
        run(pushes.client(name, "prices:BTCUSDT"))
    aws.hooks.append(Refuse(POST))
    for price in (1, 2):
        run(CatalogueTable(worker).write_prices({"BTCUSDT": str(price)}, clock()))
        run(pushes.announce())
        run(pushes.push_all())
    (lost,) = aws.sockets.hung_up
    assert of_type(pushes.heard(lost), "update") == []
    assert not [row for row in aws.items("connections") if lost in str(row)]
    for name in {"one", "two", "three"} - {lost}:
        updates = of_type(pushes.heard(name), "update")
        assert [(update["sequence"], update["price"]) for update in updates] == [(1, 1), (2, 2)]


def test_who_cannot_even_be_hung_up_on_goes_on_listening(
    run, pushes, worker, aws, clock, known, capsys
) -> None:
    for name in ("one", "two"):
        run(pushes.client(name, "prices:BTCUSDT"))
    aws.hooks += [Refuse(POST), Refuse("apigatewaymanagementapi.DeleteConnection")]
    listeners = {name: Listener("prices:BTCUSDT") for name in ("one", "two")}
    for price in range(2):
        run(CatalogueTable(worker).write_prices({"BTCUSDT": str(price)}, clock()))
        run(pushes.announce())
        run(pushes.push_all())
    for name, listener in listeners.items():
        for message in pushes.heard(name):
            listener.hear(message)
    assert sorted(listener.holes for listener in listeners.values()) == [[], [(0, 2)]]
    assert "hang_ups_failed" in capsys.readouterr().err
    run(pushes.say("one", "snapshot", "prices:BTCUSDT"))
    again = pushes.heard("one")[-1]
    assert (again["type"], again["sequence"], again["price"]) == ("snapshot", 2, 1)


def test_an_update_that_reaches_nobody_comes_again(run, pushes, worker, aws, clock, known) -> None:
    run(pushes.client("c", "prices:BTCUSDT"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "5"}, clock()))
    run(pushes.announce())
    aws.hooks.append(Refuse(POST, times=2))
    run(pushes.push_all())
    (update,) = of_type(pushes.heard("c"), "update")
    assert (update["price"], update["sequence"]) == (5, 3)


def test_what_follows_a_failed_update_waits_for_it(run, pushes, worker, fleet, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(pushes.client("c", f"task:{task_id}"))
    run(fleet.settle())
    run(pushes.announce())
    aws.hooks.append(Refuse("dynamodb.UpdateItem"))
    run(pushes.push_all())
    updates = of_type(pushes.heard("c"), "update")
    assert [update["task"]["status"] for update in updates] == ["pending", "running", "completed"]


def test_one_streams_failure_is_not_anothers(run, pushes, worker, aws, clock, known) -> None:
    run(pushes.client("c", "prices:BTCUSDT", "prices:ETHUSDT"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "1", "ETHUSDT": "2"}, clock()))
    run(pushes.announce())
    aws.hooks.append(Refuse(POST))
    run(pushes.push())
    assert len(of_type(pushes.heard("c"), "update")) == 1
    assert len(aws.sqs.bodies(worker.settings.push_queue_url)) == 1


def test_what_a_failed_update_had_taken_in_comes_again_with_it(
    run, pushes, worker, aws, known
) -> None:
    run(pushes.client("c", "candles:BTCUSDT:1m"))
    for start in (0, 60_000, 120_000):
        run(cover(worker, "BTCUSDT", Part("1m", start, start + 60_000, start)))
        run(pushes.announce())
    aws.hooks.append(Refuse(POST))
    run(pushes.push_all())
    (update,) = of_type(pushes.heard("c"), "update")
    assert update["covered"] == {
        "start": "1970-01-01T00:00:00.000Z",
        "end": "1970-01-01T00:03:00.000Z",
    }


class Broken(Hook):
    """What is stored of candles cannot be read by our code."""

    async def before(self, called: Called) -> None:
        if called.service == "s3":
            raise ValueError("a bug")


def test_what_breaks_our_code_in_one_stream_is_not_pushed_again_in_another(
    run, pushes, worker, aws, clock, known, capsys
) -> None:
    run(pushes.client("c", "prices:BTCUSDT", "candles:BTCUSDT:1d"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "1"}, clock()))
    run(cover(worker, "BTCUSDT", Part("1d", 0, 86_400_000, 0)))
    aws.hooks.append(Broken())
    run(pushes.announce())
    run(pushes.push())
    assert [update["topic"] for update in of_type(pushes.heard("c"), "update")] == [
        "prices:BTCUSDT"
    ]
    (left,) = aws.sqs.bodies(worker.settings.push_queue_url)
    assert "candles:BTCUSDT:1d" in left
    assert "push_crashed" in capsys.readouterr().err


def test_a_message_that_is_no_update_is_dropped(run, pushes, worker, aws, capsys) -> None:
    entry = {"Id": "0", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    for at, body in enumerate(["no update", '{"stream": "no topic"}']):
        ids = {"MessageDeduplicationId": str(at), "MessageBody": body}
        aws.sqs.apply(
            "SendMessageBatch",
            {"QueueUrl": worker.settings.push_queue_url, "Entries": [{**entry, **ids}]},
        )
    run(pushes.push())
    assert aws.sqs.bodies(worker.settings.push_queue_url) == []
    assert capsys.readouterr().err.count("update_dropped") == 2


def test_what_was_pushed_is_measured(run, pushes, worker, clock, known, capsys) -> None:
    metrics.flush()
    capsys.readouterr()
    run(pushes.client("c", "prices:BTCUSDT"))
    run(CatalogueTable(worker).write_prices({"BTCUSDT": "5"}, clock()))
    run(pushes.announce())
    clock.advance(1500)
    run(pushes.push_all())
    metrics.flush()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    counts = {
        name: line[name] for line in lines for name in line if "Push" in name or "Sent" in name
    }
    assert counts["UpdatesPushed"] == 1
    assert counts["MessagesSent"] == 1
    assert counts["PushDelay"] == 1500


# --- whatever happens at the same time ----------------------------------------------------------


class Jitter(Hook):
    """Every call takes its time before and after it is applied, as a seed has it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    async def before(self, called: Called) -> None:
        await self._wait()

    async def after(self, called: Called) -> None:
        await self._wait()

    async def _wait(self) -> None:
        await asyncio.sleep(self._random.choice((0, 0, 0.001, 0.005, 0.1)))


AT_PUSHING: ContextVar[bool] = ContextVar("at_pushing", default=False)


class Killed(Hook):
    """A push dies at some of its calls, with what it held hidden until its time is over."""

    def __init__(self, seed: int, times: int) -> None:
        self._random = random.Random(seed)
        self.left = times

    async def after(self, called: Called) -> None:
        if AT_PUSHING.get() and self.left and self._random.random() < 0.05:
            self.left -= 1
            raise Crash(called.name)


@pytest.mark.parametrize("first", range(0, 120, 10))
def test_no_listener_misses_anything_whatever_happens_meanwhile(first: int) -> None:
    for seed in range(first, first + 10):
        _play(seed)


def _play(seed: int) -> None:
    """A task runs, two pushers work, clients come at any moment; all are right in the end."""
    from tests.doubles.aws import Aws
    from tests.doubles.exchange import Exchange

    clock, chance = Clock(), random.Random(seed)
    chosen = doubled_settings()
    aws = Aws.for_settings(clock, chosen)
    worker = Worker(aws, chosen, clock, Exchange(clock))  # type: ignore[arg-type]
    pushes, fleet = Pushes(aws, worker), Fleet(aws, worker)
    kills = 2 * (seed % 2)
    killed = Killed(seed, kills)
    loop = SimulatedLoop(clock)

    async def play() -> None:
        symbols = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}
        await CatalogueTable(worker).write_catalogue(symbols, 6000, clock())
        task_id = await submit_collection(worker, BODY, "me", "r")
        topic = f"task:{task_id}"
        aws.hooks += [Jitter(seed), killed]
        over = False

        async def work() -> None:
            while (await TaskTable(worker).read(task_id)).state not in TERMINAL:
                await fleet.plan()
                await fleet.collect(1)
                await asyncio.sleep(chance.choice((0, 0.01, 0.2)))

        async def price() -> None:
            for _ in range(25):
                await CatalogueTable(worker).write_prices({"BTCUSDT": str(clock())}, clock())
                await asyncio.sleep(chance.choice((0.03, 0.11, 0.25)))

        async def stream() -> None:
            while not over:
                await pushes.announce()
                await asyncio.sleep(chance.choice((0, 0.01)))

        async def push() -> None:
            AT_PUSHING.set(True)
            url = chosen.push_queue_url
            while not over or aws.sqs.bodies(url):
                with suppress(Crash):
                    await pushes.push(chance.randint(1, 10))
                await asyncio.sleep(chance.choice((0.005, 0.1)))

        async def come(name: str) -> None:
            await asyncio.sleep(chance.uniform(0, 2))
            await pushes.client(name, topic, "prices:BTCUSDT")
            await asyncio.sleep(chance.uniform(0, 0.6))
            await pushes.say(name, "snapshot", "prices:BTCUSDT")

        background = [asyncio.ensure_future(one) for one in (stream(), push())]
        await asyncio.gather(work(), price(), *(come(f"client-{at}") for at in range(CLIENTS)))
        over = True
        await asyncio.gather(*background)
        await pushes.announce()
        await pushes.push_all()
        final = await TaskTable(worker).read(task_id)
        stored = await CatalogueTable(worker).read_prices()
        assert final
        assert stored
        for at in range(CLIENTS):
            for name, right in (
                (topic, final.state),
                ("prices:BTCUSDT", float(stored.prices["BTCUSDT"].price)),
            ):
                listener = Listener(name)
                for message in pushes.heard(f"client-{at}"):
                    listener.hear(message)
                last = listener.kept[-1]
                shown = last["task"]["status"] if name == topic else last["price"]
                assert shown == right, (seed, at, name)
                # A push that died may have numbered an update without sending it: that is seen.
                assert len(listener.holes) <= kills - killed.left, (seed, listener.holes)
        _check_that_snapshots_hold_what_their_number_says(aws)

    loop.run_until_complete(play())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _check_that_snapshots_hold_what_their_number_says(aws) -> None:
    messages = [json.loads(text) for _, text in aws.sockets.sent]
    prices = [message for message in messages if message.get("topic") == "prices:BTCUSDT"]
    for snapshot in of_type(prices, "snapshot"):
        for update in of_type(prices, "update"):
            if update["sequence"] <= snapshot["sequence"]:
                assert update["price"] <= snapshot["price"]


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def keyed(run, pushes):
    """Clients with a key of their own each, where keys are asked for: name -> id of the key."""
    asking = dataclasses.replace(
        pushes.worker, settings=dataclasses.replace(pushes.worker.settings, authentication="keys")
    )
    pushes.worker = asking

    async def connect(name: str, owner: str, scope: str) -> str:
        made = await create_key(asking, {"owner": owner, "scopes": [scope]}, "boss")
        key = await verify(asking, f"Bearer {made['key']}")
        caller = Caller(key.owner, allowed(key.scopes), key.key_id)
        ticket = (await issue_ticket(asking, caller))["ticket"]
        await receive.connect(asking, name, ticket)
        await pushes.say(name, "subscribe", "tasks")
        return str(made["key_id"])

    return lambda name, owner, scope="read": run(connect(name, owner, scope))


def test_a_connection_whose_key_is_revoked_hears_nothing_more_and_is_closed(
    run, pushes, keyed, aws, clock
) -> None:
    revoked = keyed("gone", "me")
    keyed("stays", "me")
    run(KeyTable(pushes.worker).revoke(revoked, clock(), "boss"))
    clock.advance(CACHED_MS)
    run(submit_collection(pushes.worker, BODY, "me", "r"))
    run(pushes.announce())
    run(pushes.push_all())
    assert not of_type(pushes.heard("gone"), "update")
    assert of_type(pushes.heard("stays"), "update")
    assert aws.sockets.hung_up == ["gone"]
    listeners = ConnectionTable(pushes.worker).subscribers("tasks@me", clock())
    assert set(run(listeners)) == {"stays"}


def test_a_message_of_such_a_connection_gets_no_data(run, pushes, keyed, aws, clock) -> None:
    revoked = keyed("gone", "me")
    run(KeyTable(pushes.worker).revoke(revoked, clock(), "boss"))
    clock.advance(CACHED_MS)
    aws.sockets.sent.clear()
    run(pushes.say("gone", "snapshot", "tasks"))
    (answer,) = pushes.heard("gone")
    assert (answer["type"], answer["reason"]) == ("error", "KEY_ENDED")
    assert aws.sockets.hung_up == ["gone"]


def test_updates_wait_where_keys_cannot_be_read(run, pushes, keyed, aws, clock) -> None:
    keyed("c", "me")
    clock.advance(CACHED_MS)
    run(submit_collection(pushes.worker, BODY, "me", "r"))
    run(pushes.announce())

    class NoKeys(Hook):
        async def before(self, called: Called) -> None:
            if called.parameters.get("TableName") == pushes.worker.settings.keys_table:
                raise CallFailed("dynamodb", "GetItem", "InternalServerError", "refused")

    aws.hooks.append(NoKeys())
    run(pushes.push())
    assert not of_type(pushes.heard("c"), "update")
    aws.hooks.clear()
    clock.advance(60_000)
    run(pushes.push_all())
    assert of_type(pushes.heard("c"), "update")


def test_each_owner_hears_of_their_own_tasks_and_an_admin_of_all(run, pushes, keyed) -> None:
    keyed("me", "me")
    keyed("you", "you")
    keyed("boss", "boss", "admin")
    mine = run(submit_collection(pushes.worker, BODY, "me", "r"))
    yours = run(submit_collection(pushes.worker, BODY, "you", "r"))
    run(pushes.announce())
    run(pushes.push_all())

    def heard(name):
        updates = of_type(pushes.heard(name), "update")
        return {view["task_id"] for update in updates for view in update["tasks"]}

    assert (heard("me"), heard("you"), heard("boss")) == ({mine}, {yours}, {mine, yours})

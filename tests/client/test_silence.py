"""A lost update of one topic is healed however much the others talk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from market_data_collector.client import Client
from market_data_collector.listening import SILENCE, TOGETHER, Message
from tests.cli.fake_api import FakeApi, task
from tests.cli.test_watch import TICKET, TOPIC, Server, snapshot, update, watch

PRICES = "prices:BTCUSDT"


class Timed(Server):
    """Connections that bring `(second, message)`, on a clock of their own."""

    now = 0.0

    def recv(self, timeout: float) -> str:
        if self.left and self.left[0][0] > self.now + timeout:
            self.now += timeout
            raise TimeoutError
        if self.left:
            at, self.left[0] = self.left[0]
            self.now = max(self.now, at)
        return super().recv(timeout)

    def send(self, message: str) -> None:
        super().send(message)
        self.said[-1]["second"] = self.now


def heard(server: Timed, *topics: str) -> Iterator[Message]:
    """What is heard until the script ends."""
    fake = FakeApi()
    fake.usual["POST /ws-ticket"] = (201, TICKET)
    with Client(
        "http://127.0.0.1:8000", transport=fake, sleep=lambda _: None, opener=server
    ) as api:
        messages = api.watch(*topics, clock=lambda: server.now)
        with pytest.raises(KeyboardInterrupt):
            yield from messages


def prices(*seconds: float) -> Iterator[tuple[float, dict[str, Any]]]:
    for number, second in enumerate(seconds, 1):
        yield second, update(number, PRICES, price=float(number), time="now")


def both_at(second: float) -> list[tuple[float, dict[str, Any]]]:
    return [
        (second, snapshot(0, task=task("running", 1))),
        (second, snapshot(0, PRICES, price=0.5, time="now")),
    ]


def test_a_silent_topic_is_asked_for_while_another_talks() -> None:
    healed = (16.0, snapshot(0, task=task("completed")))
    server = Timed([*both_at(0), *prices(7, 14), healed, *prices(21)])
    messages = list(heard(server, TOPIC, PRICES))
    assert server.said[1:] == [{"action": "snapshot", "topics": [TOPIC], "second": SILENCE}]
    assert [message["task"]["status"] for message in messages if "task" in message] == [
        "running",
        "completed",
    ]


def test_topics_that_fell_silent_almost_together_are_asked_for_in_one_message() -> None:
    script = [*both_at(0), *prices(TOGETHER), (SILENCE + 1, snapshot(0, task=task("running", 2)))]
    server = Timed(script)
    list(heard(server, TOPIC, PRICES))
    assert [said["topics"] for said in server.said[1:]] == [[TOPIC, PRICES]]


def test_a_topic_that_is_asked_for_in_vain_has_the_connection_made_again() -> None:
    talk = prices(*range(1, 60, 7))
    server = Timed([*both_at(0), *talk], [(31.0, snapshot(3, task=task("completed")))])
    messages = list(heard(server, TOPIC, PRICES))
    assert [(said["action"], said["second"]) for said in server.said] == [
        ("subscribe", 0),
        ("snapshot", SILENCE),
        ("subscribe", 2 * SILENCE),
    ]
    assert messages[-1]["task"]["status"] == "completed"


def test_asking_for_another_topic_does_not_put_that_off() -> None:
    answer = (28.0, snapshot(2, PRICES, price=2.0, time="now"))
    server = Timed([*both_at(0), *prices(7, 12), answer, *prices(*range(29, 60, 7))], [])
    list(heard(server, TOPIC, PRICES))
    assert [(said["action"], said["topics"], said["second"]) for said in server.said] == [
        ("subscribe", [TOPIC, PRICES], 0),
        ("snapshot", [TOPIC], 15),
        ("snapshot", [PRICES], 27),
        ("subscribe", [TOPIC, PRICES], 30),
    ]


def test_many_topics_that_stay_quiet_keep_within_the_servers_limit() -> None:
    """Each answers its question a while later, so that all are due at other times."""
    topics = [f"prices:S{number}USDT" for number in range(50)]
    script = [(number / 3, snapshot(0, topic)) for number, topic in enumerate(topics)]
    script += [(20 + number / 3, snapshot(0, topic)) for number, topic in enumerate(topics)]
    server = Timed(script)
    list(heard(server, *topics))
    asked = [said["second"] for said in server.said]
    assert len(asked) > 2
    within_ten_seconds = [sum(0 <= at - first < 10 for at in asked) for first in asked]
    assert max(within_ten_seconds) < 20


def test_a_snapshot_that_says_nothing_new_is_not_printed_again() -> None:
    same = snapshot(0, PRICES, price=0.5, time=None)
    server = Server([same, None, same, None, snapshot(0, PRICES, price=0.75, time=None)])
    ran = watch(PRICES, server=server)
    assert [line.split()[1] for line in ran.out.splitlines()] == ["0.5", "0.75"]

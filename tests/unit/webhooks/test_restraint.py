"""Webhooks are no cannon: so many requests a minute, and a receiver that fails is left alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from chalicelib.events.publish import publish
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.webhooks.restraint import Restraint
from chalicelib.webhooks.retry import MOST_TRIES, Answer
from tests.doubles.faults import Meanwhile, named
from tests.doubles.senders import Sender
from tests.doubles.settings import doubled_settings

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}
SECRET = "a-secret-of-thirty-two-letters-!"
MOST = 3


@pytest.fixture
def settings():
    return doubled_settings(owner_webhooks_per_minute=MOST, retention_seconds=86_400)


class Receivers(Sender):
    """Answers by URL; `sent_at` holds (when, URL) of each request."""

    def __init__(self, clock: Any, answers: dict[str, int]) -> None:
        super().__init__()
        self.clock, self.answers = clock, answers
        self.sent_at: list[tuple[int, str]] = []

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        self.sent_at.append((self.clock(), url))
        return Answer(self.answers.get(url, 200))


@pytest.fixture
def receivers(clock):
    return lambda **answers: Receivers(
        clock, {f"https://{name}.acme.com": status for name, status in answers.items()}
    )


@pytest.fixture
def queue_events(run, backend):
    """Queue the end of so many tasks; returns their ids."""

    def queue_events(count: int, host: str = "hooks", owner: str = "me") -> list[str]:
        hook = {"url": f"https://{host}.acme.com", "secret": SECRET}
        ids = [
            run(submit_collection(backend, {**BODY, "webhook": hook, "force": True}, owner, "r"))
            for _ in range(count)
        ]
        for task_id in ids:
            name = f"task:{task_id}"
            event = {"id": f"{name}:4", "subject": name, "seq": 4, "action": "task.completed"}
            run(publish(backend, [{**event, "at": "2026-03-04T05:06:07.000Z", "by": "system"}]))
        return ids

    return queue_events


@pytest.fixture
def settle(deliver, aws, clock, settings):
    """Deliver until nothing waits any more."""

    def settle(sender: Sender) -> None:
        queue = aws.sqs.queues[settings.webhook_queue_url]
        while queue.messages:
            if not deliver(sender):
                clock.advance_to(min(message.visible_at for message in queue.messages))

    return settle


def dead(aws, settings) -> int:
    return len(aws.sqs.bodies(settings.webhook_dead_letter_queue_url))


def test_what_is_above_the_limit_waits_and_is_not_lost(
    queue_events, receivers, settle, aws, settings, run, backend
) -> None:
    ids, sender = queue_events(5 * MOST), receivers()
    settle(sender)
    minutes = Counter(at // 60_000 for at, _ in sender.sent_at)
    assert max(minutes.values()) <= MOST
    assert len(sender.sent_at) == len(ids)
    assert dead(aws, settings) == 0
    for task_id in ids:
        assert run(view_task(backend, task_id))["webhook"]["delivered"] == 1


def test_one_owner_does_not_use_up_anothers_requests(
    queue_events, receivers, deliver, clock
) -> None:
    queue_events(2 * MOST, owner="greedy")
    queue_events(1, host="modest", owner="modest")
    sender = receivers()
    while deliver(sender):
        pass
    assert Counter(url for _, url in sender.sent_at) == {
        "https://hooks.acme.com": MOST,
        "https://modest.acme.com": 1,
    }


def test_a_single_delivery_to_a_receiver_that_fails_is_tried_as_ever(
    queue_events, receivers, settle, aws, settings
) -> None:
    queue_events(1, host="down")
    sender = receivers(down=503)
    settle(sender)
    assert len(sender.sent_at) == MOST_TRIES
    assert dead(aws, settings) == 1


def test_the_failures_of_one_receiver_do_not_multiply_by_its_events(
    queue_events, receivers, settle, aws, settings
) -> None:
    queue_events(20, host="down")
    sender = receivers(down=503)
    settle(sender)
    assert dead(aws, settings) == 20
    assert len(sender.sent_at) <= 4 * MOST_TRIES  # and not 20 times
    per_minute = Counter(at // 60_000 for at, _ in sender.sent_at)
    assert max(per_minute.values()) <= MOST


def test_a_receiver_that_fails_holds_up_no_other_and_is_served_once_it_is_back(
    queue_events, receivers, settle, deliver, clock, aws, settings
) -> None:
    queue_events(4, host="down")
    fine = queue_events(2, host="fine")
    sender = receivers(down=503)
    deliver(sender)
    clock.advance(61_000)
    deliver(sender)
    assert sum("fine" in url for _, url in sender.sent_at) == len(fine)
    sender.answers.clear()
    settle(sender)
    assert dead(aws, settings) == 0


def test_of_requests_at_once_no_more_are_counted_than_there_may_be(run, backend, aws) -> None:
    restraint, now_ms = Restraint(backend, "me"), backend.now_ms()
    aws.hooks.append(
        Meanwhile(
            named("dynamodb.UpdateItem", "SET #minute"), lambda: restraint.wait_seconds(now_ms)
        )
    )
    waits = [run(restraint.wait_seconds(now_ms)) for _ in range(MOST)]
    assert [bool(wait) for wait in waits] == [False] * (MOST - 1) + [True]
    assert run(restraint.sent(now_ms)) == MOST
    assert run(restraint.sent(now_ms + 60_000)) == 0
    assert not run(restraint.wait_seconds(now_ms + 60_000))


def test_a_clock_that_is_behind_begins_no_minute_anew(run, backend) -> None:
    restraint, now_ms = Restraint(backend, "me"), backend.now_ms() // 60_000 * 60_000
    for _ in range(MOST):
        run(restraint.wait_seconds(now_ms))
    assert run(restraint.wait_seconds(now_ms - 1000))
    assert run(restraint.wait_seconds(now_ms))


def test_the_url_of_a_receiver_is_not_stored_beside_its_owner(
    queue_events, receivers, deliver, aws
) -> None:
    queue_events(1, host="secret-token")
    deliver(receivers(**{"secret-token": 503}))
    items = [item for item in aws.items("tasks") if item["pk"]["S"].startswith("OWNER#")]
    items = [item for item in items if not item["sk"]["S"].startswith("COUNT#")]
    assert len(items) == 2
    assert "secret-token" not in str(items)

"""Webhooks delivered: signed, once where it goes well, tried again where that may help."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.events.publish import publish
from chalicelib.functions.webhooks import deliver_batch
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task, webhook_view
from chalicelib.webhooks import deliver as webhook_deliver
from chalicelib.webhooks import retry
from chalicelib.webhooks.delivery import FAILED, Delivery
from chalicelib.webhooks.items import WebhookItems
from chalicelib.webhooks.message import decode
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.webhooks.retry import Answer
from chalicelib.webhooks.sender import WebhookSender
from infra import functions, storage
from infra.package import ROOT
from tests.doubles.faults import Meanwhile, Refuse, is_update_of
from tests.doubles.fleet import Crash
from tests.doubles.receiver import receiving
from tests.doubles.senders import Sender
from tests.doubles.sqs import Message
from tests.doubles.tasks import task_of

SECRET = "a-secret-of-thirty-two-letters-!"
HOOK = {"url": "https://hooks.acme.com/in?token=t", "secret": SECRET}
BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}


@pytest.fixture
def task_id(run, backend, settings) -> str:
    """A task with a webhook, one event of which waits to be delivered."""
    task_id = run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    run(publish(backend, [event(task_id)]))
    return task_id


def event(task_id: str, seq: int = 4, action: str = "task.completed") -> dict[str, Any]:
    return {
        "id": f"task:{task_id}:{seq}",
        "subject": f"task:{task_id}",
        "seq": seq,
        "action": action,
        "at": "2026-03-04T05:06:07.000Z",
        "by": "system",
        "detail": "",
    }


@pytest.fixture
def left(aws, settings):
    """(messages that wait, dead letters)"""
    return lambda: (
        len(aws.sqs.bodies(settings.webhook_queue_url)),
        len(aws.sqs.bodies(settings.webhook_dead_letter_queue_url)),
    )


@pytest.fixture
def shown(run, backend):
    return lambda task_id: run(view_task(backend, task_id))["webhook"]


def test_a_delivery_is_signed_so_that_its_receiver_can_check_it(
    deliver, task_id, backend, left, shown
) -> None:
    sender = Sender(Answer(200))
    assert deliver(sender) == 1
    [(url, headers, body)] = sender.sent
    assert url == HOOK["url"]
    stamp = headers["webhook-timestamp"]
    assert int(stamp) == backend.now_ms() // 1000
    signed = f"{headers['webhook-id']}.{stamp}.".encode() + body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    content = json.loads(body)
    assert (content["type"], content["data"]["id"]) == ("task.completed", headers["webhook-id"])
    assert left() == (0, 0)
    assert shown(task_id) == {
        "url_host": "hooks.acme.com",
        "delivered": 1,
        "failed": 0,
        "pending": 0,
        "last_error": None,
    }


def example() -> Any:
    """`verify` as docs/WEBHOOKS.md has it."""
    page = (ROOT / "docs" / "WEBHOOKS.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", page, flags=re.S | re.M)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["verify"]


@pytest.mark.parametrize("secret", [SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_the_documents_example_takes_what_is_genuine_and_new_and_nothing_else(
    run, backend, deliver, secret: str
) -> None:
    body = {**BODY, "webhook": {**HOOK, "secret": secret}}
    run(publish(backend, [event(run(submit_collection(backend, body, "me", "r")))]))
    sender = Sender()
    deliver(sender)
    [(_, headers, content)] = sender.sent
    verify, age = example(), time.time() - backend.now_ms() / 1000
    assert verify(secret, headers, content, abs(age) + 60)
    assert not verify(secret, headers, content, abs(age) - 60)
    assert not verify(secret + "BBBB", headers, content, abs(age) + 60)
    assert not verify(secret, headers, content + b" ", abs(age) + 60)
    assert not verify(secret, {**headers, "webhook-id": "another"}, content, abs(age) + 60)
    later = str(int(headers["webhook-timestamp"]) + 1)
    assert not verify(secret, {**headers, "webhook-timestamp": later}, content, abs(age) + 60)


def test_a_task_without_a_webhook_shows_none(run, backend, shown) -> None:
    assert shown(run(submit_collection(backend, BODY, "me", "r"))) is None
    assert run(webhook_view(backend, task_of())) is None


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_a_delivery(deliver, task_id, left, shown, status: int) -> None:
    deliver(Sender(Answer(status)))
    assert left() == (0, 0)
    assert shown(task_id)["delivered"] == 1


@pytest.mark.parametrize("status", [100, 301, 302, 307, 308, 400, 401, 403, 404, 410, 422])
def test_an_answer_that_will_stay_the_same_fails_at_once_and_is_buried(
    deliver, task_id, left, shown, status: int
) -> None:
    deliver(Sender(Answer(status)))
    assert left() == (0, 1)
    assert shown(task_id)["failed"] == 1
    assert shown(task_id)["last_error"] == f"answered {status}"


def test_a_refused_address_fails_at_once_without_its_address_being_shown(
    backend, aws, task_id, left, shown, settings
) -> None:
    sender = WebhookSender((), lambda host, port: ["10.1.2.3"])
    records = aws.sqs.receive(settings.webhook_queue_url)
    answer = asyncio.run(deliver_batch(backend, sender, {"Records": records}))
    assert answer == {"batchItemFailures": []}
    assert left() == (1, 1)  # acknowledged, which deletes it
    assert shown(task_id)["failed"] == 1
    assert shown(task_id)["last_error"] == "resolves to a private address"


@pytest.mark.parametrize(
    "answer",
    [*(Answer(status) for status in (408, 425, 429, 500, 502, 503, 504, 599)), Answer(0, "broken")],
    ids=lambda answer: str(answer.status),
)
def test_trouble_that_may_pass_comes_back_after_five_seconds_or_so(
    deliver, task_id, left, shown, clock, answer: Answer
) -> None:
    deliver(Sender(answer))
    assert left() == (1, 0)
    assert shown(task_id)["pending"] == 1
    clock.advance(3_900)
    assert deliver(Sender()) == 0
    clock.advance(2_200)
    assert deliver(Sender()) == 1
    assert shown(task_id)["delivered"] == 1


@pytest.mark.parametrize(
    ("asked", "least_s", "most_s"), [("300", 300, 301), ("1", 4, 7), ("86400", 3600, 3601)]
)
def test_a_receiver_that_names_a_time_is_left_alone_until_then_but_for_an_hour_at_most(
    deliver, task_id, clock, asked: str, least_s: int, most_s: int
) -> None:
    deliver(Sender(Answer(429, retry_after=asked)))
    clock.advance(least_s * 1000 - 1000)
    assert deliver(Sender()) == 0
    clock.advance((most_s - least_s) * 1000 + 1000)
    assert deliver(Sender()) == 1


@pytest.fixture
def usual_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither shortened nor stretched by chance, which takes up to a fifth from each."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


@pytest.mark.usefixtures("usual_waits")
def test_after_six_tries_over_about_an_hour_it_is_given_up_and_buried(
    deliver, task_id, left, shown, clock
) -> None:
    began, tries = clock(), 0
    sender = Sender(*[Answer(503)] * 50)
    while left()[0]:
        tries += deliver(sender)
        clock.advance(1000)
    assert tries == len(sender.sent) == retry.MOST_TRIES == 6
    assert clock() - began > 3_600_000
    assert left() == (0, 1)
    assert shown(task_id) == {
        "url_host": "hooks.acme.com",
        "delivered": 0,
        "failed": 1,
        "pending": 0,
        "last_error": "answered 503",
    }
    assert len({headers["webhook-id"] for _, headers, _ in sender.sent}) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in sender.sent}) == 6


def test_a_message_that_comes_again_after_its_delivery_sends_nothing(
    run, backend, deliver, task_id, aws, settings, left
) -> None:
    [body] = aws.sqs.bodies(settings.webhook_queue_url)
    deliver(Sender())
    run(WebhookQueue(backend).send([decode(body)]))
    sender = Sender()
    assert deliver(sender) == 1
    assert sender.sent == []
    assert left() == (0, 0)


def test_a_late_duplicates_failure_does_not_undo_a_delivery(
    run, backend, deliver, task_id, aws, settings, shown
) -> None:
    [body] = aws.sqs.bodies(settings.webhook_queue_url)
    late = replace(
        Delivery.of(decode(body)),
        state=FAILED,
        tries=2,
        status=500,
        error="answered 500",
        last_at=backend.now_ms(),
    )
    deliver(Sender())
    run(WebhookItems(backend).note(late))
    assert shown(task_id)["delivered"] == 1
    assert shown(task_id)["failed"] == 0


def test_a_dead_letter_that_is_put_back_gets_one_more_try(
    run, backend, deliver, task_id, aws, settings, left, shown
) -> None:
    def put_back() -> None:
        dead = aws.sqs.queues[settings.webhook_dead_letter_queue_url].messages
        run(WebhookQueue(backend).send([decode(dead.pop().body)]))

    deliver(Sender(Answer(404)))
    put_back()
    deliver(Sender(Answer(404)))
    assert left() == (0, 1)
    put_back()
    deliver(Sender(Answer(503)))
    assert left() == (0, 1)
    assert shown(task_id)["failed"] == 1
    put_back()
    deliver(Sender(Answer(200)))
    assert left() == (0, 0)
    assert shown(task_id)["delivered"] == 1


@pytest.mark.parametrize(
    "name", ["dynamodb.UpdateItem", "dynamodb.GetItem", "dynamodb.BatchGetItem"]
)
def test_an_outcome_that_could_not_be_written_down_comes_again(
    deliver, task_id, aws, clock, left, shown, name: str
) -> None:
    aws.hooks.append(Refuse(name))
    deliver(Sender())
    assert left() == (1, 0)
    clock.advance(3_600_000)
    deliver(Sender())
    assert left() == (0, 0)
    assert shown(task_id)["delivered"] == 1


def test_a_delivery_that_fails_for_good_is_buried_before_it_is_written_down(
    deliver, task_id, aws, clock, left, shown
) -> None:
    refusing = Refuse("dynamodb.UpdateItem", 0)
    aws.hooks.append(refusing)

    class Sending(Sender):
        async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
            refusing.times = 1  # what comes after the try
            return await super().send(url, headers, body)

    deliver(Sending(Answer(404)))
    assert left() == (1, 1)
    assert shown(task_id)["failed"] == 0
    clock.advance(3_600_000)
    deliver(Sender(Answer(404)))
    assert left()[0] == 0
    assert shown(task_id)["failed"] == 1


# --- copies of one delivery ----------------------------------------------------------------------


@pytest.fixture
def copy(run, backend, task_id, clock):
    """Queue the event of `task_id` once more, as a stream batch that came again does."""

    def copy() -> None:
        clock.advance(1)
        run(publish(backend, [event(task_id)]))
        clock.advance(1)

    return copy


@pytest.fixture
def put_back(aws, settings, clock):
    """Put the oldest dead letter back, as a message move task does."""

    def put_back() -> None:
        clock.advance(1)
        dead = aws.sqs.queues[settings.webhook_dead_letter_queue_url].messages.pop(0)
        url = settings.webhook_queue_url
        aws.sqs.apply("SendMessage", {"QueueUrl": url, "MessageBody": dead.body})
        clock.advance(1)

    return put_back


@pytest.fixture
def waiting(aws, settings):
    return lambda: aws.sqs.queues[settings.webhook_queue_url].messages


@pytest.mark.parametrize("copies", [1, 2, 5])
@pytest.mark.usefixtures("usual_waits")
def test_copies_share_one_series_of_tries_and_make_one_dead_letter(
    deliver, task_id, copy, left, shown, clock, copies: int
) -> None:
    began, sender = clock(), Sender(*[Answer(503)] * 50)
    for _ in range(copies):
        copy()
    while left()[0]:
        deliver(sender)
        clock.advance(1000)
    assert len(sender.sent) == retry.MOST_TRIES
    assert clock() - began > 3_600_000
    assert left() == (0, 1)
    assert (shown(task_id)["failed"], shown(task_id)["pending"]) == (1, 0)


def test_a_batch_that_comes_again_because_its_totals_failed_makes_one_dead_letter(
    run, backend, aws, task_id, settings, deliver, left, clock
) -> None:
    aws.hooks.append(Refuse("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(publish(backend, [event(task_id, 5)]))
    run(publish(backend, [event(task_id, 5)]))
    assert left() == (3, 0)
    clock.advance(1)
    sender = Sender(*[Answer(404)] * 3)
    deliver(sender)
    assert len(sender.sent) == len({headers["webhook-id"] for _, headers, _ in sender.sent}) == 2
    assert left() == (0, 2)


def test_a_copy_that_comes_while_the_next_try_is_awaited_is_acknowledged(
    deliver, task_id, copy, left, clock
) -> None:
    deliver(Sender(Answer(503, retry_after="600")))
    copy()
    sender = Sender()
    assert deliver(sender) == 1
    assert (sender.sent, left()) == ([], (1, 0))
    clock.advance(601_000)
    deliver(sender)
    assert (len(sender.sent), left()) == (1, (0, 0))


def test_a_copy_takes_over_from_a_message_that_does_not_come_when_it_is_due(
    deliver, task_id, copy, left, waiting, clock, shown
) -> None:
    sender = Sender(*[Answer(503, retry_after="600")] * 2)
    deliver(sender)
    waiting().clear()
    clock.advance(600_000)
    copy()
    deliver(sender)
    assert (len(sender.sent), left()) == (2, (1, 0))
    clock.advance(601_000)
    deliver(sender)
    assert shown(task_id)["delivered"] == 1


def test_a_message_that_comes_late_leaves_its_delivery_to_the_copy_that_took_over(
    deliver, task_id, copy, left, waiting, clock
) -> None:
    sender = Sender(*[Answer(503, retry_after="600")] * 2)
    deliver(sender)
    [late] = waiting()
    clock.advance(599_000)
    late.visible_at += 120_000
    copy()
    clock.advance(1_000)
    deliver(sender)
    assert (len(sender.sent), left()) == (2, (2, 0))
    clock.advance(121_000)
    deliver(sender)
    assert (len(sender.sent), left()) == (2, (1, 0))
    assert waiting() != [late]


def test_a_message_that_is_handed_out_early_waits_for_its_time_and_loses_no_try(
    run, backend, deliver, task_id, left, waiting, clock
) -> None:
    sender = Sender(Answer(503, retry_after="600"))
    deliver(sender)
    waiting()[0].visible_at = clock()
    assert deliver(sender) == 1
    assert (len(sender.sent), left()) == (1, (1, 0))
    [delivery] = run(WebhookItems(backend).deliveries(task_id))
    assert delivery.tries == 1
    clock.advance(599_000)
    assert deliver(sender) == 0
    clock.advance(1_000)
    assert deliver(sender) == 1
    assert (len(sender.sent), left()) == (2, (0, 0))


def test_a_copy_that_saw_the_same_at_the_same_time_does_not_send_it_too(
    run, backend, aws, deliver, task_id, copy, left, settings
) -> None:
    copy()
    first, second = aws.sqs.receive(settings.webhook_queue_url)
    sender = Sender(Answer(404), Answer(404))

    async def other() -> None:
        assert await webhook_deliver.deliver(backend, sender, second)

    aws.hooks.append(Meanwhile(is_update_of("HOOK#"), other))
    assert run(webhook_deliver.deliver(backend, sender, first))
    assert len(sender.sent) == 1
    assert left()[1] == 1


def test_a_function_that_died_in_a_try_is_followed_by_its_own_message(
    run, backend, aws, deliver, task_id, copy, left, shown, clock, settings
) -> None:
    class Dying(Sender):
        async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
            raise Crash

    [record] = aws.sqs.receive(settings.webhook_queue_url)
    with pytest.raises(Crash):
        run(webhook_deliver.deliver(backend, Dying(), record))
    hidden_s = aws.sqs.queues[settings.webhook_queue_url].visibility_seconds
    clock.advance(hidden_s * 1000)
    deliver(Sender())
    assert left() == (0, 0)
    assert shown(task_id)["delivered"] == 1


def test_a_claim_lasts_as_long_as_a_function_may_and_has_lapsed_when_its_message_returns(
    settings,
) -> None:
    timeouts = functions.timeouts(settings)
    queue = storage.queues(timeouts)["WebhookQueue"]["Properties"]
    assert timeouts["deliver_webhook"] * 1000 <= webhook_deliver.CLAIM_MS
    assert queue["VisibilityTimeout"] * 1000 > webhook_deliver.CLAIM_MS


def test_a_copy_that_comes_after_the_failure_is_neither_sent_nor_buried_again(
    deliver, task_id, copy, left, waiting, clock
) -> None:
    copy()
    late = waiting()[1]
    late.visible_at = clock() + 60_000
    deliver(Sender(Answer(404)))
    assert left() == (1, 1)
    clock.advance(60_000)
    sender = Sender(Answer(404))
    assert deliver(sender) == 1
    assert (sender.sent, left()) == ([], (0, 1))


def test_a_dead_letter_is_tried_once_each_time_it_is_put_back_however_often_it_is_handed_out(
    aws, deliver, task_id, put_back, left, clock, shown, settings
) -> None:
    deliver(Sender(Answer(404)))
    clock.advance(86_400_000)
    put_back()
    [record] = aws.sqs.receive(settings.webhook_queue_url)
    clock.advance(3_600_000)
    sender = Sender(Answer(503), Answer(503))
    deliver(sender)
    assert (len(sender.sent), left()) == (1, (0, 1))
    url = settings.webhook_queue_url
    aws.sqs.queues[url].messages.append(
        Message(record["messageId"], record["body"], _sent_at(record), clock(), False)
    )
    deliver(sender)
    assert (len(sender.sent), left()) == (1, (0, 1))
    put_back()
    deliver(Sender())
    assert left() == (0, 0)
    assert shown(task_id)["delivered"] == 1


def _sent_at(record: dict[str, Any]) -> int:
    return int(record["attributes"]["SentTimestamp"])


def test_a_dead_letter_that_is_put_back_before_its_failure_is_written_down_is_not_lost(
    run, backend, aws, deliver, task_id, put_back, left, clock, shown, settings
) -> None:
    sender = Sender(Answer(404))
    answers = []

    async def meanwhile() -> None:
        put_back()
        [record] = aws.sqs.receive(settings.webhook_queue_url)
        answers.append(await webhook_deliver.deliver(backend, sender, record))

    [record] = aws.sqs.receive(settings.webhook_queue_url)
    aws.hooks.append(Meanwhile(is_update_of("HOOK#"), meanwhile, number=2))
    clock.advance(1)
    assert run(webhook_deliver.deliver(backend, sender, record))
    aws.sqs.delete(settings.webhook_queue_url, record["receiptHandle"])
    assert (answers, len(sender.sent), left()) == ([False], 1, (1, 0))
    clock.advance(webhook_deliver.CLAIM_MS)
    deliver(sender)
    assert (len(sender.sent), left()) == (2, (0, 0))
    assert shown(task_id)["delivered"] == 1


# --- others --------------------------------------------------------------------------------------


def test_one_receivers_trouble_is_its_own(
    run, backend, deliver, task_id, aws, settings, left, shown
) -> None:
    other = run(submit_collection(backend, {**BODY, "force": True, "webhook": HOOK}, "me", "r"))
    aws.sqs.apply(
        "SendMessage", {"QueueUrl": settings.webhook_queue_url, "MessageBody": "no message of ours"}
    )
    run(publish(backend, [event(other)]))
    deliver(Sender(Answer(500), Answer(200)))
    assert shown(task_id)["pending"] == 1
    assert shown(other)["delivered"] == 1
    assert left() == (2, 0)


def test_a_message_that_never_gets_through_the_function_ends_among_the_dead_letters(
    run, backend, aws, settings, clock, deliver, left
) -> None:
    url = settings.webhook_queue_url
    aws.sqs.apply("SendMessage", {"QueueUrl": url, "MessageBody": "no message of ours"})
    for _ in range(storage.WEBHOOK_RECEIVES + 1):
        deliver(Sender())
        clock.advance(3_600_000)
    assert left() == (0, 1)


def test_a_task_that_expired_is_still_told_of_its_end(
    run, backend, fleet, aws, clock, settings, deliver
) -> None:
    task_id = run(submit_collection(backend, {**BODY, "webhook": HOOK}, "me", "r"))
    run(fleet.settle())
    clock.advance(settings.retention_seconds * 1000 + 1000)
    aws.dynamodb.expire(settings.tasks_table)
    assert run(TaskTable(backend).read(task_id)) is None
    run(publish(backend, [event(task_id)]))
    sender = Sender()
    deliver(sender)
    assert len(sender.sent) == 1


def test_a_message_whose_webhook_is_long_gone_is_dropped(
    deliver, task_id, aws, clock, settings, left
) -> None:
    clock.advance(23 * 86_400_000)
    aws.dynamodb.expire(settings.tasks_table)
    sender = Sender()
    assert deliver(sender) == 1
    assert sender.sent == []
    assert left() == (0, 0)


def test_the_last_trys_error_is_the_one_shown(run, backend, deliver, task_id, clock, shown) -> None:
    run(publish(backend, [event(task_id, 5, "task.failed")]))
    deliver(Sender(Answer(404), Answer(500)))
    clock.advance(10_000)
    deliver(Sender(Answer(0, "no answer within 10 s")))
    assert shown(task_id)["last_error"] == "no answer within 10 s"
    assert (shown(task_id)["failed"], shown(task_id)["pending"]) == (1, 1)


def test_the_whole_way_to_a_server_on_this_machine(run, aws, settings, clock) -> None:
    """An allowed host, a real connection, first 500 and then 200."""
    with receiving() as receiver:
        address = f"127.0.0.1:{receiver.port}"
        backend = Backend(aws, replace(settings, webhook_allowed_hosts=(address,)), clock)
        hook = {**HOOK, "url": f"http://{address}/in"}
        task_id = run(submit_collection(backend, {**BODY, "webhook": hook}, "me", "r"))
        run(publish(backend, [event(task_id)]))
        receiver.answers = [(500, {"retry-after": "60"})]
        for _ in range(2):
            records = aws.sqs.receive(settings.webhook_queue_url)
            batch = deliver_batch(backend, WebhookSender((address,)), {"Records": records})
            answer = asyncio.run(batch)
            clock.advance(120_000)
        assert answer == {"batchItemFailures": []}
        assert [request.path for request in receiver.seen] == ["/in", "/in"]
        assert run(view_task(backend, task_id))["webhook"]["delivered"] == 1

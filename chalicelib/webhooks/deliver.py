"""Deliver one event to one receiver, at least once, and write down what came of it.

    queued ──2xx──> delivered
      │ ▲
      │ └── 5xx, 408, 425, 429, no answer: again after 5 s, 30 s, 2 min, 10 min, 1 h
      ├── any other answer, a refused address ─┐
      └── the last try failed ─────────────────┴──> failed, and among the dead letters

A delivery for which its owner has no request left in this minute is put off. One whose receiver
failed just now counts as tried without being sent (webhooks/restraint.py).

A dead letter that somebody puts back into the queue gets one more try.

**Copies.** The stream may bring an event twice, and SQS may hand out a message twice. So the queue
may hold several copies of one delivery. Their tries are one series: a copy claims a try before it
makes it, and the copy that made the try carries the delivery on. Until the next try is due, all
other copies are acknowledged. Once it is due, the first copy that comes makes it. So no single copy
has to be relied on.

**Dead letters.** A dead letter that is put back has the same body as a late copy, and a message id
of its own, as a late copy has. The time of queueing tells them apart: a copy is queued before the
event is given up, a dead letter after it (SQS sets the time anew where a message is moved, and the
dead letter was sent at the end of the last try in any case). One case remains: the stream finds
that the event is not given up yet, the event is given up, and the stream then queues a copy. That
copy is taken for a dead letter and sent once more, under the same id. Receivers have to expect
that, and nothing is lost.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Protocol

from chalicelib.aws.sqs_batch import Record
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.logs import bound, log
from chalicelib.core.times import iso
from chalicelib.webhooks import retry, signature
from chalicelib.webhooks.delivery import DELIVERED, FAILED, PENDING, Delivery
from chalicelib.webhooks.items import WebhookItems
from chalicelib.webhooks.message import WebhookMessage, decode
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.webhooks.restraint import Restraint
from chalicelib.webhooks.retry import Answer
from chalicelib.webhooks.webhook import Webhook

#: Characters of a try's error that are kept.
MOST_ERROR = 200
#: How long a claim lasts: the timeout of the function, so that no try lasts longer. A message whose
#: function died comes back after the queue's visibility timeout, which is longer than that.
CLAIM_MS = 60_000
#: How much the clocks of two functions may differ.
_SKEW_MS = 1_000


class Sender(Protocol):
    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer: ...


async def deliver(backend: Backend, sender: Sender, record: Record) -> bool:
    """Deliver the event of one queue record; False where the record is to come back.

    A record that is acknowledged unsent was delivered before, or is a copy whose delivery another
    copy carries on. Raises PoisonMessage for a body that is none of ours, and CallFailed where the
    outcome could not be written down: the event then comes, and may be sent, again.
    """
    message = decode(record["body"])
    items = WebhookItems(backend)
    with bound(task_id=message.task_id, event_id=message.event["id"]):
        stored = await items.read(message.task_id)
        if stored is None:  # gone with its task, days ago
            log("webhook_gone", level="warning")
            return True
        noted = await items.delivery(message)
        now_ms = backend.now_ms()
        if noted is not None and _is_over(record, noted):
            return True
        if noted is not None and now_ms < (noted.next_at or 0) - _SKEW_MS:
            return await _leave(backend, record, noted, now_ms)
        restraint = Restraint(backend, stored.owner)
        receiver = await restraint.receiver(stored.webhook.url)
        is_left_alone = now_ms < receiver.until
        wait = 0 if is_left_alone else await restraint.wait_seconds(now_ms)
        if wait:
            log("webhook_restrained", after_seconds=wait)
            # Spread over a minute, so that they do not all come again at once.
            await WebhookQueue(backend).put_off(message, wait + random.randrange(60))
            return True
        claimed = await items.claim(
            message,
            noted,
            carrier=record["messageId"],
            now_ms=now_ms,
            until_ms=now_ms + CLAIM_MS,
        )
        if not claimed:
            return await _leave(backend, record, await items.delivery(message), now_ms)
        if is_left_alone:
            answer = Answer(0, f"not sent: the receiver has failed, until {iso(receiver.until)}")
        else:
            answer = await _send(backend, sender, stored.webhook, message)
            failed = not answer.refused and (answer.status == 0 or retry.may_pass(answer.status))
            await restraint.note(stored.webhook.url, receiver, failed, backend.now_ms())
        return await _settle(backend, record, noted or Delivery.of(message), answer)


def _is_over(record: Record, noted: Delivery) -> bool:
    """Whether nothing is left to do for a record. A dead letter that was put back is not over."""
    if noted.state == FAILED:
        return _sent_at(record) < noted.last_at
    return noted.state == DELIVERED


async def _leave(backend: Backend, record: Record, noted: Delivery | None, now_ms: int) -> bool:
    """Leave a delivery whose next try is not due yet, or is being made at this moment.

    Returns True where another message carries it on, False where this one is to come back for it.
    The carrier comes back: SQS may have handed it out early. A message that was queued while the
    try was being made comes back, too: it may be the dead letter of that very try, put back at
    once.
    """
    if noted is None or not _comes_back(record, noted):
        log("webhook_copy_dropped", tries=noted.tries if noted else None)
        return True
    wait = max(1, math.ceil(((noted.next_at or 0) - now_ms) / 1000))
    log("webhook_put_off", after_seconds=wait, tries=noted.tries)
    await WebhookQueue(backend).retry_later(record["receiptHandle"], wait)
    return False


def _comes_back(record: Record, noted: Delivery) -> bool:
    is_carrier = noted.carrier == record["messageId"]
    return is_carrier or 0 < noted.claimed_at < _sent_at(record)


def _sent_at(record: Record) -> int:
    """When SQS took a message, epoch ms."""
    return int(record["attributes"]["SentTimestamp"])


async def _send(
    backend: Backend, sender: Sender, webhook: Webhook, message: WebhookMessage
) -> Answer:
    body = signature.payload(message.event)
    at_s = backend.now_ms() // 1000
    headers = signature.headers(webhook.secret, str(message.event["id"]), at_s, body)
    return await sender.send(webhook.url, headers, body)


async def _settle(backend: Backend, record: Record, before: Delivery, answer: Answer) -> bool:
    """Write down what came of a try, and see to the next one. `before`: the earlier tries.

    Returns False where the record is to come back for the next try.
    """
    now_ms = backend.now_ms()
    tried = replace(
        before,
        tries=before.tries + 1,
        status=answer.status,
        error="",
        last_at=now_ms,
        carrier="",
        next_at=0,
        claimed_at=0,
    )
    if retry.is_delivered(answer.status):
        metrics.count("WebhookDeliveries", Outcome="delivered")
        await WebhookItems(backend).note(replace(tried, state=DELIVERED))
        return True
    tried = replace(tried, error=(answer.problem or f"answered {answer.status}")[:MOST_ERROR])
    wait = _wait(before, tried, answer)
    if wait is None:
        log("webhook_failed", level="warning", tries=tried.tries, error=tried.error)
        metrics.count("WebhookDeliveries", Outcome="failed")
        await WebhookQueue(backend).bury(record["body"])
        # last_at is of before the burial, so that the dead letter counts as sent after it.
        await WebhookItems(backend).note(replace(tried, state=FAILED))
        return True
    log("webhook_comes_back", after_seconds=wait, tries=tried.tries, error=tried.error)
    metrics.count("WebhookDeliveries", Outcome="retried")
    due = replace(tried, state=PENDING, carrier=record["messageId"], next_at=now_ms + wait * 1000)
    await WebhookItems(backend).note(due)
    await WebhookQueue(backend).retry_later(record["receiptHandle"], wait)
    return False


def _wait(before: Delivery, tried: Delivery, answer: Answer) -> int | None:
    """Seconds until the next try; None where there is none.

    A delivery that had failed before was a dead letter that was put back: it gets one try only.
    """
    if before.state == FAILED or answer.refused:
        return None
    if answer.status != 0 and not retry.may_pass(answer.status):
        return None
    asked = retry.retry_after_seconds(answer.retry_after, tried.last_at // 1000)
    return retry.wait_seconds(tried.tries, random.random(), asked)

"""Webhooks: one event to one receiver, at least once, with its outcome written down.

    queued ──2xx──> delivered
      │ ▲
      │ └── 5xx, 408, 425, 429, no answer: again after 5 s, 30 s, 2 min, 10 min, 1 h
      ├── any other answer, a refused address ─┐
      └── the last try failed ─────────────────┴──> failed, and among the dead letters

A dead letter that somebody puts back into the queue gets one more try.

The stream may tell of an event twice, and SQS may hand out a message twice, so there may be several
copies of one delivery. Their tries are one series: a try is claimed before it is made, and the
message that made it carries the delivery on. Until the next try is due the other copies are
acknowledged; from then on whichever comes first carries on, so that none has to be relied on.

A dead letter that is put back holds the same words as a late copy and has, like it, an id of its
own. What tells them apart is when they were queued: a copy before the event was given up, a dead
letter after it, because SQS counts the sending of a message anew where it is moved and it was sent
at the end of the last try in any case. A copy that the stream queues in the moment between looking
whether the event was given up and that happening is taken for a dead letter, and so sent once more
under the same id: the receiver has been told to expect that, and nothing is lost.
"""

from __future__ import annotations

import math
import random
from typing import Any, Protocol

from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.logs import bound, log
from chalicelib.webhooks import retry, signature, webhook
from chalicelib.webhooks.items import HookItems
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.webhooks.retry import Answer
from chalicelib.webhooks.webhook import HookMessage, Webhook

MOST_ERROR = 200
#: No try lasts longer: the timeout of the function. A message whose function died returns later,
#: after the queue's visibility timeout, so its claim has lapsed by then.
CLAIM_MS = 60_000
#: How much the clocks of two functions may differ.
_SKEW_MS = 1_000


class Sender(Protocol):
    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer: ...


async def deliver(backend: Backend, sender: Sender, record: dict[str, Any]) -> bool:
    """Deliver one queue record's event; False where it is to come back.

    A record that is acknowledged unsent was delivered, or is a copy that another one stands for.
    Raises PoisonMessage, or CallFailed where the outcome could not be written down: the event then
    comes, and may be sent, again.
    """
    message = webhook.decode(record["body"])
    with bound(task_id=message.task_id, event_id=message.event["id"]):
        hook = await HookItems(backend).read(message.task_id)
        if hook is None:  # gone with its task, days ago
            log("webhook_gone", level="warning")
            return True
        noted = await HookItems(backend).delivery(message)
        now_ms = backend.now_ms()
        if _is_over(record, noted):
            return True
        if now_ms < noted.get("next_at", 0) - _SKEW_MS:
            return await _leave(backend, record, noted, now_ms)
        carrier, until_ms = record["messageId"], now_ms + CLAIM_MS
        if not await HookItems(backend).claim(message, noted, carrier, now_ms, until_ms):
            return await _leave(backend, record, await HookItems(backend).delivery(message), now_ms)
        answer = await _send(backend, sender, hook, message)
        return await _settle(backend, record, message, answer, noted)


def _is_over(record: dict[str, Any], noted: dict[str, Any]) -> bool:
    """Whether nothing is left to do for a record: it is no dead letter that was put back."""
    if noted.get("state") == retry.FAILED:
        return bool(_sent_at(record) < noted["last_at"])
    return bool(noted.get("state") == retry.DELIVERED)


async def _leave(
    backend: Backend, record: dict[str, Any], noted: dict[str, Any], now_ms: int
) -> bool:
    """Leave a delivery whose next try is not due, or that is being tried: True where others see
    to it, False where the record is to come back for it.

    The carrier comes back: SQS may hand it out early. So does what was queued while the delivery
    is being tried; it may be the dead letter of that very try, put back at once.
    """
    is_carrier = noted.get("carrier") == record["messageId"]
    if not is_carrier and not 0 < noted.get("claimed_at", 0) < _sent_at(record):
        log("webhook_copy_dropped", tries=noted.get("tries"))
        return True
    wait = max(1, math.ceil((noted["next_at"] - now_ms) / 1000))
    log("webhook_put_off", after_seconds=wait, tries=noted["tries"])
    await WebhookQueue(backend).retry_later(record["receiptHandle"], wait)
    return False


def _sent_at(record: dict[str, Any]) -> int:
    """When SQS took a message, epoch ms."""
    return int(record["attributes"]["SentTimestamp"])


async def _send(backend: Backend, sender: Sender, hook: Webhook, message: HookMessage) -> Answer:
    body = signature.payload(message.event)
    at_s = backend.now_ms() // 1000
    headers = signature.headers(hook.secret, str(message.event["id"]), at_s, body)
    return await sender.send(hook.url, headers, body)


async def _settle(
    backend: Backend,
    record: dict[str, Any],
    message: HookMessage,
    answer: Answer,
    noted: dict[str, Any],
) -> bool:
    """Write down what came of a try, and see to the next one; `noted`: of those before it."""
    now_ms = backend.now_ms()
    tries = int(noted.get("tries", 0)) + 1
    if retry.is_delivered(answer.status):
        metrics.count("WebhookDeliveries", Outcome="delivered")
        await HookItems(backend).note(message, retry.DELIVERED, tries, answer.status, "", now_ms)
        return True
    error = (answer.problem or f"answered {answer.status}")[:MOST_ERROR]
    wait = None
    may_pass = not answer.refused and (answer.status == 0 or retry.may_pass(answer.status))
    if may_pass and noted.get("state") != retry.FAILED:
        asked = retry.retry_after_seconds(answer.retry_after, now_ms // 1000)
        wait = retry.wait_seconds(tries, random.random(), asked)
    if wait is None:
        log("webhook_failed", level="warning", tries=tries, error=error)
        metrics.count("WebhookDeliveries", Outcome="failed")
        await WebhookQueue(backend).bury(record["body"])
        # As of before the burial, so that the dead letter counts as sent after the failure.
        await HookItems(backend).note(message, retry.FAILED, tries, answer.status, error, now_ms)
        return True
    log("webhook_comes_back", after_seconds=wait, tries=tries, error=error)
    metrics.count("WebhookDeliveries", Outcome="retried")
    carrier, next_at = record["messageId"], now_ms + wait * 1000
    await HookItems(backend).note(
        message, retry.PENDING, tries, answer.status, error, now_ms, carrier, next_at
    )
    await WebhookQueue(backend).retry_later(record["receiptHandle"], wait)
    return False

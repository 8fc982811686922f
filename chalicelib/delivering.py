"""Webhooks: one event to one receiver, at least once, with its outcome written down.

    queued ──2xx──> delivered
      │ ▲
      │ └── 5xx, 408, 425, 429, no answer: again after 5 s, 30 s, 2 min, 10 min, 1 h
      ├── any other answer, a refused address ─┐
      └── the last try failed ─────────────────┴──> failed, and among the dead letters

A dead letter that somebody puts back into the queue gets one more try.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

from chalicelib import metrics, webhooks
from chalicelib.logs import bound, log
from chalicelib.webhooks import Answer, HookMessage, Webhook
from chalicelib.wiring import Desk

MOST_ERROR = 200


class Sender(Protocol):
    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer: ...


async def deliver(desk: Desk, sender: Sender, record: dict[str, Any]) -> bool:
    """Deliver one queue record's event; False where it is to come back.

    Raises PoisonMessage, or CallFailed where the outcome could not be written down: the event then
    comes, and may be sent, again.
    """
    message = webhooks.decode(record["body"])
    with bound(task_id=message.task_id, event_id=message.event["id"]):
        hook = await desk.hooks.read(message.task_id)
        if hook is None:  # gone with its task, days ago
            log("webhook_gone", level="warning")
            return True
        noted = await desk.hooks.delivery(message)
        if noted.get("state") == webhooks.DELIVERED:
            return True
        answer = await _send(desk, sender, hook, message)
        return await _settle(desk, record, message, answer, noted)


async def _send(desk: Desk, sender: Sender, hook: Webhook, message: HookMessage) -> Answer:
    body = webhooks.payload(message.event)
    at_s = desk.now_ms() // 1000
    headers = webhooks.headers(hook.secret, str(message.event["id"]), at_s, body)
    return await sender.send(hook.url, headers, body)


async def _settle(
    desk: Desk,
    record: dict[str, Any],
    message: HookMessage,
    answer: Answer,
    noted: dict[str, Any],
) -> bool:
    """Write down what came of a try, and see to the next one; `noted`: of those before it."""
    now_ms = desk.now_ms()
    tries = int(noted.get("tries", 0)) + 1
    if webhooks.is_delivered(answer.status):
        metrics.count("WebhookDeliveries", Outcome="delivered")
        await desk.hooks.note(message, webhooks.DELIVERED, tries, answer.status, "", now_ms)
        return True
    error = (answer.problem or f"answered {answer.status}")[:MOST_ERROR]
    wait = None
    may_pass = not answer.refused and (answer.status == 0 or webhooks.may_pass(answer.status))
    if may_pass and noted.get("state") != webhooks.FAILED:
        asked = webhooks.retry_after_seconds(answer.retry_after, now_ms // 1000)
        wait = webhooks.wait_seconds(tries, random.random(), asked)
    if wait is None:
        log("webhook_failed", level="warning", tries=tries, error=error)
        metrics.count("WebhookDeliveries", Outcome="failed")
        await desk.webhook_queue.bury(record["body"])
        await desk.hooks.note(message, webhooks.FAILED, tries, answer.status, error, now_ms)
        return True
    log("webhook_comes_back", after_seconds=wait, tries=tries, error=error)
    metrics.count("WebhookDeliveries", Outcome="retried")
    await desk.hooks.note(message, webhooks.PENDING, tries, answer.status, error, now_ms)
    await desk.webhook_queue.retry_later(record["receiptHandle"], wait)
    return False


async def webhook_view(desk: Desk, meta: dict[str, Any]) -> dict[str, Any] | None:
    """What GET /task/{id} shows of a task's webhook; None where it has none."""
    if "webhook_host" not in meta:
        return None
    deliveries = await desk.hooks.deliveries(meta["task_id"])
    states = [delivery["state"] for delivery in deliveries]
    failing = [delivery for delivery in deliveries if delivery.get("error")]
    last = max(failing, key=lambda delivery: delivery["last_at"], default=None)
    return {
        "url_host": meta["webhook_host"],
        "delivered": states.count(webhooks.DELIVERED),
        "failed": states.count(webhooks.FAILED),
        "pending": states.count(webhooks.PENDING),
        "last_error": last["error"] if last else None,
    }

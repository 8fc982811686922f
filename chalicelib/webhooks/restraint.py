"""What keeps webhooks from being used as a cannon: how many requests they may make, and to whom.

    pk              sk             holds
    OWNER#<owner>   WEBHOOKS       minute, sent: requests of that minute
    OWNER#<owner>   URL#<sha256>   a receiver that fails: failures (in a row), until (epoch ms: it
                                   is left alone), ttl

Both only where OWNER_WEBHOOKS_PER_MINUTE sets a limit. What finds none left waits in the queue.
What finds its receiver left alone has failed as if it had been sent: its tries are as many, and as
far apart, as ever. So of many events for one receiver that is down, one at a time is really sent.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.quotas.limits import WEBHOOKS_PER_MINUTE, owner_pk
from chalicelib.webhooks.retry import WAITS

_MINUTE_MS = 60_000
#: A little less than the first event's own waits with their jitter, so that its next try is made.
#: And never so long that all of the later tries of another event could fall into it.
_LEFT_ALONE_MS = tuple(min(seconds, 600) * 750 for seconds in WAITS)
#: A receiver that failed long ago is as good as any.
_FORGOTTEN_SECONDS = 7_200


class Receiver(NamedTuple):
    """`failures`: in a row, of what was really sent; `until`: left alone until then, epoch ms."""

    failures: int = 0
    until: int = 0


class Restraint(ItemTable):
    """The requests of one owner's webhooks."""

    def __init__(self, backend: Backend, owner: str) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)
        self._most = WEBHOOKS_PER_MINUTE.limit(backend.settings)
        self._pk = owner_pk(owner)

    async def wait_seconds(self, now_ms: int) -> int:
        """Count a request of this minute, then 0; else seconds until the next one begins."""
        if not self._most:
            return 0
        minute = now_ms // _MINUTE_MS
        for condition, change in (
            ("#minute = :minute AND sent < :most", "ADD sent :one"),
            ("attribute_not_exists(pk) OR #minute < :minute", "SET #minute = :minute, sent = :one"),
            ("#minute = :minute AND sent < :most", "ADD sent :one"),  # another has just begun it
        ):
            values = {":one": 1, ":minute": minute}
            values |= {":most": self._most} if ":most" in condition else {}
            try:
                await self._update(
                    self._key("WEBHOOKS"),
                    UpdateExpression=change,
                    ConditionExpression=condition,
                    ExpressionAttributeNames={"#minute": "minute"},
                    ExpressionAttributeValues=item_to_wire(values),
                )
            except ConditionFailed as refused:
                item = {} if refused.item is None else item_from_wire(refused.item)
                if item.get("minute", -1) >= minute and item["sent"] >= self._most:
                    break
                continue
            return 0
        return 1 + (_MINUTE_MS - now_ms % _MINUTE_MS) // 1000

    async def sent(self, now_ms: int) -> int:
        """How many requests were counted in this minute."""
        item = await self._get(self._key("WEBHOOKS")) or {}
        counted: int = item["sent"] if item.get("minute") == now_ms // _MINUTE_MS else 0
        return counted

    async def receiver(self, url: str) -> Receiver:
        """How a receiver fared last."""
        if not self._most:
            return Receiver()
        item = await self._get(self._key(_url_sk(url))) or {}
        return Receiver(item.get("failures", 0), item.get("until", 0))

    async def note(self, url: str, before: Receiver, failed: bool, now_ms: int) -> None:
        """Note whether a receiver failed just now, in a way that may pass; `before`: as it was."""
        if not self._most or not (failed or before.failures):
            return
        wait_ms = _LEFT_ALONE_MS[min(before.failures, len(_LEFT_ALONE_MS) - 1)]
        values = {
            # Of events that failed at once, the last one written counts for all of them.
            ":failures": before.failures + 1 if failed else 0,
            ":until": now_ms + wait_ms if failed else 0,
            ":ttl": now_ms // 1000 + _FORGOTTEN_SECONDS,
        }
        await self._update(
            self._key(_url_sk(url)),
            UpdateExpression="SET failures = :failures, #until = :until, #ttl = :ttl",
            ExpressionAttributeNames={"#until": "until", "#ttl": "ttl"},
            ExpressionAttributeValues=item_to_wire(values),
        )

    def _key(self, sk: str) -> dict[str, Any]:
        return item_to_wire({"pk": self._pk, "sk": sk})


def _url_sk(url: str) -> str:
    # Not the URL itself: its path and query may hold a token.
    return f"URL#{hashlib.sha256(url.encode()).hexdigest()}"

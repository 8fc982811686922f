"""The PROG items of the Tasks table: opened for an attempt, claimed by a dispatch, closed.

Their layout is in tasks/table.py; what they count is tasks/fence.py's.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.task_keys import item_key, prog_key
from chalicelib.tasks.fence import Fence
from chalicelib.tasks.progress import CLOSED, DETAIL, FAILED, OPEN, TROUBLE, Progress, progress_from
from chalicelib.work.window import Claim

Item = dict[str, Any]
#: Writers of one PROG item that a retry may lose against, one after another.
_RACES = 8


class ProgItems(Fence):
    """The part of TaskTable that opens, claims and closes PROG items."""

    async def open_prog(
        self, task_id: str, attempt: int, number: int, size: int, ttl: int, claim: Claim
    ) -> Progress | None:
        """Make PROG item `number` countable for `attempt`, keeping what succeeded before.

        `size`: its units. Returns the item; None where a newer attempt or a cancel has it: count
        nothing then. Where this attempt has opened it before, it is returned as it is, with the
        claim of whoever opened it: only they send its messages.
        """
        try:
            item = await self._update(
                item_key(task_id, prog_key(number)),
                UpdateExpression="SET attempt = :attempt, #state = :open, unit_count = :size, "
                "candles = :zero, revised = :zero, rejected = :zero, from_store = :zero, "
                "rev = :zero, #ttl = :ttl, "
                "claim = :claim, claimed_at = :claimed_at, refill_at = :refill_at",
                ConditionExpression="attribute_not_exists(pk)",
                ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":open": to_wire(OPEN),
                    ":size": to_wire(size),
                    ":zero": to_wire(0),
                    ":ttl": to_wire(ttl),
                    **_claim_values(claim, size),
                },
            )
        except ConditionFailed as failed:
            return await self._reopen_prog(task_id, attempt, number, size, _old(failed), ttl, claim)
        return progress_from(item, number)

    async def _reopen_prog(
        self,
        task_id: str,
        attempt: int,
        number: int,
        size: int,
        old: Item,
        ttl: int,
        claim: Claim,
        state: str = OPEN,
    ) -> Progress | None:
        for _ in range(_RACES):
            if old["attempt"] >= attempt:
                before = progress_from(old, number)
                return before if before.is_open(attempt) else None
            kept = progress_from(old, number).succeeded
            clear = [name for name in old if name.startswith((FAILED, DETAIL, TROUBLE, "last_"))]
            clear += [] if kept else ["done"]
            names = {"#state": "state", "#ttl": "ttl"}
            names.update({f"#c{at}": name for at, name in enumerate(clear)})
            values = {
                ":attempt": to_wire(attempt),
                ":open": to_wire(state),
                ":rev": to_wire(old["rev"]),
                ":one": to_wire(1),
                ":ttl": to_wire(ttl),
                ":size": to_wire(size),
                ":count": to_wire(len(kept)),
                **_claim_values(claim, size - len(kept)),
            }
            expression = (
                "SET attempt = :attempt, #state = :open, rev = rev + :one, #ttl = :ttl, "
                "unit_count = :size, claim = :claim, claimed_at = :claimed_at, "
                "refill_at = :refill_at, kept = :count, kept_candles = candles, "
                "kept_revised = revised, kept_rejected = rejected, kept_from_store = from_store"
            )
            if kept:
                expression += ", done = :kept"
                values[":kept"] = to_wire(kept)
            gone = ["sent_at", "sent_again", *(f"#c{at}" for at in range(len(clear)))]
            expression += f" REMOVE {', '.join(gone)}"
            try:
                item = await self._update(
                    item_key(task_id, prog_key(number)),
                    UpdateExpression=expression,
                    ConditionExpression="rev = :rev",
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                )
            except ConditionFailed as raced:
                old = _old(raced)
            else:
                return progress_from(item, number)
        raise CallFailed("dynamodb", "UpdateItem", "Contention", f"PROG {number} of {task_id}")

    async def claim_prog(
        self, task_id: str, attempt: int, number: int, seen: Progress, claim: Claim
    ) -> Progress | None:
        """Take over an open PROG item, `seen`, whose messages another dispatch has not sent.

        Returns the item; None where somebody else was faster, or it is not open any more.
        """
        values = _claim_values(claim, seen.unit_count - len(seen.done))
        try:
            item = await self._update(
                item_key(task_id, prog_key(number)),
                UpdateExpression="SET claim = :claim, claimed_at = :claimed_at, "
                "refill_at = :refill_at",
                ConditionExpression="attempt = :attempt AND #state = :open "
                "AND attribute_not_exists(sent_at) AND claim = :seen",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":open": to_wire(OPEN),
                    ":seen": to_wire(seen.claim),
                    **values,
                },
            )
        except ConditionFailed as failed:
            old = progress_from(_old(failed), number)
            # It may be our own write, sent twice because its first answer was lost.
            return old if old.claim == claim.id else None
        return progress_from(item, number)

    async def close_prog(
        self, task_id: str, attempt: int, number: int, ttl: int
    ) -> Progress | None:
        """Close PROG item `number`: after this nothing of `attempt` or older is counted.

        It is made where it does not exist yet, so that a plan still under way finds it closed.
        What an older attempt left in it is kept, as its part counts it already, and no failures.
        Returns the item; None where a newer attempt has it.
        """
        old = await self._get(item_key(task_id, prog_key(number))) if attempt > 1 else None
        if old is not None:
            nobody = Claim("", 0, more=False)
            size = old["unit_count"]
            await self._reopen_prog(task_id, attempt, number, size, old, ttl, nobody, CLOSED)
        try:
            item = await self._update(
                item_key(task_id, prog_key(number)),
                UpdateExpression="SET #state = :closed, attempt = :attempt, #ttl = :ttl, "
                "unit_count = if_not_exists(unit_count, :zero), "
                "candles = if_not_exists(candles, :zero), "
                "revised = if_not_exists(revised, :zero), "
                "rejected = if_not_exists(rejected, :zero), "
                "from_store = if_not_exists(from_store, :zero) ADD rev :one",
                ConditionExpression="attribute_not_exists(pk) OR attempt <= :attempt",
                ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":closed": to_wire(CLOSED),
                    ":attempt": to_wire(attempt),
                    ":ttl": to_wire(ttl),
                    ":zero": to_wire(0),
                    ":one": to_wire(1),
                },
            )
        except ConditionFailed:
            return None
        return progress_from(item, number)

    async def keep_prog(self, task_id: str, number: int, ttl: int) -> None:
        """Have a PROG item that is stored live until `ttl`, in epoch seconds."""
        await self._update(
            item_key(task_id, prog_key(number)),
            UpdateExpression="SET #ttl = :ttl",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeNames={"#ttl": "ttl"},
            ExpressionAttributeValues={":ttl": to_wire(ttl)},
        )

    async def mark_sent(self, task_id: str, attempt: int, number: int, now_ms: int) -> None:
        """Note that all messages of a PROG item are in the queue: nobody need send them again."""
        try:
            await self._update(
                item_key(task_id, prog_key(number)),
                UpdateExpression="SET sent_at = :now",
                ConditionExpression="attempt = :attempt",
                ExpressionAttributeValues={":now": to_wire(now_ms), ":attempt": to_wire(attempt)},
            )
        except ConditionFailed:
            return  # a newer attempt has it; its own plan marks it

    async def mark_sent_again(self, task_id: str, seen: Progress, now_ms: int) -> bool:
        """Note that the messages of an item, `seen`, are about to be sent again; whether the caller
        is to send them: nothing was counted and nobody else has sent them since it was seen.
        """
        try:
            await self._update(
                item_key(task_id, prog_key(seen.number)),
                UpdateExpression="SET sent_at = :now, sent_again = :again",
                ConditionExpression="rev = :rev AND sent_at = :seen",
                ExpressionAttributeValues={
                    ":now": to_wire(now_ms),
                    ":again": to_wire(seen.sent_again + 1),
                    ":rev": to_wire(seen.rev),
                    ":seen": to_wire(seen.sent_at),
                },
            )
        except ConditionFailed as failed:
            # Our own write, sent twice because its first answer was lost, is ours all the same.
            old = progress_from(_old(failed), seen.number)
            return (old.rev, old.sent_at) == (seen.rev, now_ms)
        return True


def _claim_values(claim: Claim, left: int) -> Item:
    return {
        ":claim": to_wire(claim.id),
        ":claimed_at": to_wire(claim.at_ms),
        ":refill_at": to_wire(claim.refill_at(left)),
    }


def _old(failed: ConditionFailed) -> Item:
    if failed.item is None:
        raise CallFailed("dynamodb", failed.operation, "ItemVanished", "no old item") from failed
    return item_from_wire(failed.item)

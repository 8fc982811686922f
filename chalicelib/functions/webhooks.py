"""Batches of webhooks that are to be told."""

from __future__ import annotations

from chalicelib.aws.sqs_batch import Batch, BatchAnswer, Record
from chalicelib.core.backend import Backend
from chalicelib.functions.records import each
from chalicelib.webhooks.deliver import Sender, deliver


async def deliver_batch(backend: Backend, sender: Sender, batch: Batch) -> BatchAnswer:
    async def one(record: Record) -> bool:
        return await deliver(backend, sender, record)

    return await each(batch, one)

"""The AWS in memory under the settings that the tests use, and workers on simulated time."""

from __future__ import annotations

import asyncio

from chalicelib.core.settings import Settings
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.worker import Worker
from chalicelib.functions.batches import collect_batch
from chalicelib.work.units import BATCH_MESSAGES
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.fleet import Fleet
from tests.doubles.settings import doubled_settings

#: How often a queue that is empty is looked at.
POLL_MS = 50


def settings() -> Settings:
    return doubled_settings()


def new_aws(clock: Clock) -> Aws:
    aws = Aws.for_settings(clock, settings())
    # Our gateways change neither what they send nor what they get.
    aws.dynamodb.careful = False
    return aws


async def planning(planner: Fleet) -> None:
    """Plan what comes, for ever."""
    while True:
        if not await planner.plan():
            await asyncio.sleep(POLL_MS / 1000)


async def collecting(aws: Aws, worker: Worker, url: str) -> None:
    """Collect what comes into a queue, as one container does, for ever."""
    budget = Budget(worker)
    while True:
        records = aws.sqs.receive(url, BATCH_MESSAGES)
        if not records:
            await asyncio.sleep(POLL_MS / 1000)
            continue
        answer = await collect_batch(worker, budget, {"Records": records}, lambda: 60_000)
        failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                aws.sqs.delete(url, record["receiptHandle"])

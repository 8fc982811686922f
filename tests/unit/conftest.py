"""Fixtures that the tests of several packages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.functions.webhooks import deliver_batch


@pytest.fixture
def deliver(run, backend, aws, settings) -> Callable[[Any], int]:
    """Give what waits for webhooks to a sender, once; returns how many messages that were."""

    def deliver(sender: Any) -> int:
        records = aws.sqs.receive(settings.webhook_queue_url)
        answer = run(deliver_batch(backend, sender, {"Records": records}))
        failed = {entry["itemIdentifier"] for entry in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                aws.sqs.delete(settings.webhook_queue_url, record["receiptHandle"])
        return len(records)

    return deliver

"""What a queue answers to a message that is put off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chalicelib.aws.sqs_queue import SqsQueue
from chalicelib.core.errors import CallFailed
from tests.doubles.error_codes import TROUBLES

OLD = {"MessageNotInflight", "ReceiptHandleIsInvalid"}
CODES = {trouble.code for trouble in TROUBLES["sqs.ChangeMessageVisibility"]} - {"answer lost"}


def put_off(code: str) -> None:
    async def call(service: str, operation: str, **_: Any) -> dict[str, Any]:
        raise CallFailed(service, operation, code, "no")

    asyncio.run(SqsQueue(call, "http://queue.test/work").retry_later("receipt", 5))


@pytest.mark.parametrize(
    "code", [*sorted(OLD), "AWS.SimpleQueueService.MessageNotInflight", "InvalidParameterValue"]
)
def test_a_message_whose_receipt_is_old_is_left_to_whoever_has_it(code: str) -> None:
    put_off(code)


@pytest.mark.parametrize("code", sorted(CODES - OLD))
def test_any_other_refusal_is_not_taken_for_an_old_receipt(code: str) -> None:
    with pytest.raises(CallFailed) as failed:
        put_off(code)
    assert failed.value.code == code

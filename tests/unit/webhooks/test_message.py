"""Messages to deliver one event to one webhook."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import PoisonMessage
from chalicelib.webhooks import message as webhook_message
from chalicelib.webhooks.message import WebhookMessage


@given(st.text(), st.integers(0, 10**9), st.dictionaries(st.text(), st.text()))
def test_messages_come_back_as_they_were(task_id: str, seq: int, more: dict[str, str]) -> None:
    event = {**more, "id": "1", "action": "task.completed", "at": "2026-01-01T00:00:00.000Z"}
    message = WebhookMessage(task_id, seq, event)
    assert webhook_message.decode(message.encode()) == message


@given(st.text() | st.sampled_from(['{"v": 1}', "[]", '{"v": 2}', "7", "[" * 5000]))
def test_what_we_never_wrote_is_poison(body: str) -> None:
    with pytest.raises(PoisonMessage):
        webhook_message.decode(body)

"""What travels through the queues comes out as it went in; anything else is poison."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import PoisonMessage
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.work.messages import (
    FILLS,
    CollectMessage,
    DispatchMessage,
    PlanMessage,
    Unit,
    decode,
)
from chalicelib.work.priorities import PRIORITIES

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def units(draw: st.DrawFn) -> tuple[Unit, ...]:
    numbers = draw(st.lists(st.integers(0, 199), min_size=1, max_size=12, unique=True))
    made = []
    for number in numbers:
        start = draw(st.integers(0, 10**13))
        made.append(
            Unit(
                number,
                draw(st.sampled_from(sorted(LENGTH_MS))),
                start,
                start + draw(st.integers(1, 10**12)),
            )
        )
    return tuple(made)


collects = st.builds(
    CollectMessage,
    task_id=texts,
    attempt=st.integers(1, 99),
    prog=st.integers(0, 999),
    priority=st.sampled_from(PRIORITIES),
    symbol=texts,
    units=units(),
    fill=st.sampled_from(FILLS),
)
plans = st.builds(PlanMessage, task_id=texts, attempt=st.integers(1, 99))
dispatches = st.builds(
    DispatchMessage, task_id=texts, attempt=st.integers(1, 99), turn=st.integers(0, 10**13)
)
Message = PlanMessage | DispatchMessage | CollectMessage
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plans | dispatches | collects)
def test_a_message_reads_as_it_was_written(message: Message) -> None:
    body = message.encode()
    assert decode(body) == message
    assert body.isascii()  # SQS refuses some characters that a symbol may have


@given(st.text() | json_values.map(json.dumps))
def test_garbage_is_poison_and_nothing_else(body: str) -> None:
    with pytest.raises(PoisonMessage):
        decode(body)


@given(plans | dispatches | collects, st.data())
def test_a_message_with_one_field_spoilt_is_poison_or_still_a_message(
    message: Message, data: st.DataObject
) -> None:
    fields = json.loads(message.encode())
    name = data.draw(st.sampled_from(sorted(fields)))
    if data.draw(st.booleans()):
        del fields[name]
    else:
        fields[name] = data.draw(json_values)
    try:
        read = decode(json.dumps(fields))
    except PoisonMessage:
        return
    assert decode(read.encode()) == read


@given(collects, st.data())
def test_a_unit_with_one_part_spoilt_is_poison_or_still_a_unit(
    message: CollectMessage, data: st.DataObject
) -> None:
    fields = json.loads(message.encode())
    unit = data.draw(st.sampled_from(fields["units"]))
    unit[data.draw(st.integers(0, 3))] = data.draw(json_values)
    try:
        read = decode(json.dumps(fields))
    except PoisonMessage:
        return
    assert isinstance(read, CollectMessage)
    assert all(isinstance(part.start_ms, int) for part in read.units)


def test_a_body_nested_without_end_is_poison() -> None:
    with pytest.raises(PoisonMessage):
        decode("[" * 100_000)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"kind": "other"},
        {"attempt": 0},
        {"attempt": True},
        {"prog": -1},
        {"priority": "urgent"},
        {"symbol": ""},
        {"units": []},
        {"units": [[0, "1m", 0, 60_000], [0, "1m", 60_000, 120_000]]},
        {"units": [[0, "2m", 0, 60_000]]},
        {"units": [[0, "1m", 60_000, 60_000]]},
        {"units": [[0, "1m", 0]]},
        {"units": {"0": 1}},
    ],
)
def test_a_message_that_no_code_of_ours_writes_is_poison(change: dict[str, Any]) -> None:
    message = CollectMessage("task", 1, 0, "normal", "BTCUSDT", (Unit(0, "1m", 0, 60_000),))
    with pytest.raises(PoisonMessage):
        decode(json.dumps({**json.loads(message.encode()), **change}))

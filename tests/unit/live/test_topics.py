"""Topics: their names, and the streams behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import InvalidRequest
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.live.topics import CANDLES, PRICES, TASK, TASKS, Topic, parse, stream_of, topic_of

symbols = st.from_regex(SYMBOL_PATTERN, fullmatch=True)
topics = st.one_of(
    st.just(Topic(TASKS)),
    st.uuids().map(lambda uuid: Topic(TASK, str(uuid))),
    symbols.map(lambda symbol: Topic(PRICES, symbol)),
    st.tuples(symbols, st.sampled_from(list(LENGTH_MS))).map(lambda pair: Topic(CANDLES, *pair)),
)


@given(topics)
def test_a_topic_is_known_by_its_name(topic: Topic) -> None:
    assert parse(str(topic)) == topic


@given(topics, st.none() | st.text())
def test_a_stream_leads_back_to_the_topic_whoever_owns_it(topic: Topic, owner: str | None) -> None:
    assert topic_of(stream_of(topic, owner)) == topic


def test_only_the_list_of_tasks_is_each_owners_own() -> None:
    assert stream_of(Topic(TASKS), "me") != stream_of(Topic(TASKS), "you")
    assert stream_of(Topic(PRICES, "BTCUSDT"), "me") == "prices:BTCUSDT"


@given(st.text() | st.integers() | st.none() | st.lists(st.text()))
def test_whatever_is_no_topic_is_refused_with_a_reason(name: object) -> None:
    known = isinstance(name, str) and (name == "tasks" or name.startswith(("task:", "prices:")))
    if not known:
        with pytest.raises(InvalidRequest) as refused:
            parse(name)
        assert refused.value.reason == "UNKNOWN_TOPIC"


@pytest.mark.parametrize(
    "name",
    [
        *("", "prices", "prices:", "tasks:me", "tasks@me", "task:", "task:a b", "task:" + "x" * 65),
        *("candles:BTCUSDT", "candles:BTCUSDT:2m", "candles::1m", "candles:BTCUSDT:1m:", "Tasks"),
    ],
)
def test_a_name_that_is_almost_one_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(name)

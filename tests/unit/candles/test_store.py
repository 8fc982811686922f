"""Parquet objects under races: no candle lost, none twice, the same bytes for the same candles."""

from __future__ import annotations

import asyncio
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.store import CandleStore, Held
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import MINUTE
from tests.doubles.aws import Aws
from tests.doubles.clock import NOW, Clock
from tests.doubles.coverage import Part, cover, hold
from tests.doubles.faults import LoseAnswer, Meanwhile, Refuse
from tests.doubles.s3 import Bucket
from tests.doubles.settings import backend_of
from tests.unit.candles.test_candles import as_book, books, candles_of

DAY_OPEN = 0


@pytest.fixture
def store(worker) -> CandleStore:
    return CandleStore(worker)


def test_the_same_window_twice_leaves_the_same_bytes(run, worker, store, aws) -> None:
    candles = candles_of({1: 0, 2: 0})
    first = run(hold(worker, "BTCUSDT", "1m", candles, "first"))
    assert (first.candles, first.added, first.revised) == (candles, 2, 0)
    before = dict(aws.s3.buckets["candles"].objects)
    assert run(hold(worker, "BTCUSDT", "1m", candles, "second")) == first._replace(added=0)
    assert aws.s3.buckets["candles"].objects == before
    assert set(aws.s3.buckets["candles"].writes.values()) == {1}


def test_a_second_writer_in_between_loses_nothing(run, worker, store, aws) -> None:
    async def other() -> None:
        await hold(worker, "BTCUSDT", "1m", candles_of({2: 2, 3: 2}), "other")

    aws.hooks.append(Meanwhile(lambda called: called.operation == "PutObject", other))
    run(hold(worker, "BTCUSDT", "1m", candles_of({1: 1, 2: 1}), "mine"))
    assert as_book(run(store.read("BTCUSDT", "1m", DAY_OPEN)).candles) == {1: 1, 2: 2, 3: 2}


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(books.filter(bool), min_size=1, max_size=5), st.integers(0, 3))
def test_writers_interleaved_at_every_call_lose_nothing(parts: Any, turns: int) -> None:
    aws = Aws(Clock(), buckets={"candles": Bucket()})
    backend = backend_of(aws, candles_bucket="candles")
    store = CandleStore(backend)

    class Turns:
        async def before(self, called: Any) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        async def after(self, called: Any) -> None:
            await asyncio.sleep(0)

    aws.hooks.append(Turns())

    async def all_at_once() -> Candles:
        await asyncio.gather(*(hold(backend, "BTCUSDT", "1m", candles_of(part)) for part in parts))
        return (await store.read("BTCUSDT", "1m", DAY_OPEN)).candles

    stored = as_book(asyncio.run(all_at_once()))
    assert set(stored) == {minute for part in parts for minute in part}
    for minute, revision in stored.items():
        assert revision == max(part[minute] for part in parts if minute in part)


def test_a_write_whose_answer_was_lost_is_recognised(run, worker, store, aws) -> None:
    aws.hooks.append(LoseAnswer("s3.PutObject"))
    run(hold(worker, "BTCUSDT", "1m", candles_of({1: 1}), "mine"))
    assert as_book(run(store.read("BTCUSDT", "1m", DAY_OPEN)).candles) == {1: 1}
    assert set(aws.s3.buckets["candles"].writes.values()) == {1}


def test_an_object_removed_in_between_is_written_anew(run, worker, store, aws) -> None:
    run(hold(worker, "BTCUSDT", "1m", candles_of({1: 1}), "mine"))

    async def remove() -> None:
        aws.s3.buckets["candles"].objects.clear()

    aws.hooks.append(Meanwhile(lambda called: called.operation == "PutObject", remove))
    run(hold(worker, "BTCUSDT", "1m", candles_of({2: 2}), "mine"))
    assert as_book(run(store.read("BTCUSDT", "1m", DAY_OPEN)).candles) == {2: 2}


def test_trouble_of_the_store_is_raised(run, worker, store, aws) -> None:
    aws.hooks.append(Refuse("s3.PutObject"))
    with pytest.raises(CallFailed):
        run(hold(worker, "BTCUSDT", "1m", candles_of({1: 1}), "mine"))


def test_nothing_stored_reads_as_no_candles(run, store) -> None:
    assert run(store.read("BTCUSDT", "1m", NOW)) == Held(Candles(), Coverage())


def test_a_key_is_one_path_segment_per_part_whatever_the_symbol(store) -> None:
    key = store.key("币安/人生=USDT", "1m", 20 * 86_400_000)
    assert key.count("/") == 4
    assert key.endswith("/symbol=币安%2F人生%3DUSDT/1970-01.parquet")


def test_a_key_of_months_differs_from_one_of_minutes_without_letters_case(store) -> None:
    months, minutes = (store.key("BTCUSDT", frame, 0).split("/")[2] for frame in ("1M", "1m"))
    assert months.lower() != minutes.lower()


def test_coverage_of_a_symbol_survives_two_writers(run, worker, aws) -> None:
    async def other() -> None:
        await cover(worker, "BTCUSDT", Part("1h", 0, MINUTE, 0))

    aws.hooks.append(Meanwhile(lambda called: called.operation == "PutItem", other))
    run(cover(worker, "BTCUSDT", Part("1m", 0, MINUTE, 0)))
    known = run(CoverageTable(worker).coverage_of(["BTCUSDT"]))["BTCUSDT"]
    assert set(known) == {"1m", "1h"}


def test_coverage_of_thousands_of_symbols_is_read_in_full(run, worker, aws) -> None:
    symbols = [f"COIN{number}" for number in range(250)]
    for symbol in symbols[::10]:
        run(cover(worker, symbol, Part("1m", 0, MINUTE, 0)))
    aws.dynamodb.leave_unprocessed = 40
    assert set(run(CoverageTable(worker).coverage_of(symbols))) == set(symbols[::10])
    assert aws.counts["dynamodb.BatchGetItem"] == 4


def test_a_file_names_the_exchange_and_the_root_that_its_candles_came_from(
    run, worker, aws, tmp_path
) -> None:
    candles = candles_of({DAY_OPEN: 1})
    run(hold(worker, "BTCUSDT", "1m", candles, "task"))
    [(key, body)] = aws.s3.buckets["candles"].objects.items()
    assert key.startswith("candles/exchange=binance/")
    file = tmp_path / "candles.parquet"
    file.write_bytes(body)
    found = duckdb.sql(f"SELECT key, value FROM parquet_kv_metadata('{file}')")
    metadata = {name.decode(): value.decode() for name, value in found.fetchall()}
    assert metadata["source"] == "binance"
    assert metadata["source_root"] == "http://exchange.test"

"""Candles go to whatever takes Arrow, with their types."""

from __future__ import annotations

import duckdb
import numpy
import pandas
import polars
import pytest
from arro3.core import Table

from market_data_collector import Candles
from tests.client.collector import CLOSES, DAY_MS, ROWS, candles


def test_pandas_gets_times_doubles_and_whole_numbers() -> None:
    frame = Candles(candles()).to_pandas()
    assert str(frame.index.dtype) == str(frame["close_time"].dtype) == "datetime64[ms, UTC]"
    assert frame.index[0] == pandas.Timestamp(DAY_MS, unit="ms", tz="UTC")
    assert frame["trades"].dtype == numpy.dtype("int64")
    assert frame["close"].tolist() == CLOSES
    assert frame.index.name == "open_time"


def test_polars_gets_the_same() -> None:
    frame = Candles(candles()).to_polars()
    assert frame.schema["open_time"] == polars.Datetime("ms", "UTC")
    assert (frame.schema["close"], frame.schema["trades"]) == (polars.Float64, polars.Int64)
    assert frame["close"].to_list() == CLOSES


def test_other_libraries_take_it_as_it_is() -> None:
    held = Candles(candles())
    assert Table(held) == held.table
    assert duckdb.sql("select count(*), max(trades) from held").fetchall() == [(ROWS, 123)]


@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_none_and_many_have_the_same_columns(rows: int) -> None:
    held = Candles(candles(0, rows))
    assert len(held) == held.to_pandas().shape[0] == held.to_polars().height == rows
    assert [*held.to_pandas().reset_index().columns] == held.to_polars().columns
    assert repr(held).startswith(f"<Candles: {rows} rows")

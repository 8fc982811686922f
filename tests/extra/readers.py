"""One folder of candles, read by pandas, Polars, DuckDB, fastparquet and Spark: the same rows.

`make test-extra` runs this file; its name keeps it out of `make test`, which needs Python alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chalicelib.candles.candles import VALUES, Candles
from chalicelib.candles.codec import encode
from chalicelib.candles.store import CandleStore
from chalicelib.core import timeframes
from chalicelib.core.times import DAY
from infra.package import ROOT
from tests.doubles.candles import append
from tests.doubles.settings import backend_of
from tests.extra.read import READERS

SYMBOLS = ("BTCUSDT", "币安人生USDT")
FRAMES = ("1m", "5m", "1h", "1M")
#: Timeframe -> ms from the candles to stretches whose objects hold no row, before and behind them.
EMPTY = {"1m": (-400 * DAY, 400 * DAY), "1h": (-400 * DAY,)}
PYTHON = ROOT / ".venv-extra" / "bin" / "python"
#: Whole numbers and halves, whose sums are exact in any order.
PRICES = (1.5, 2.5, 1.0, 2.0, 10.5)


async def no_call(*_: object, **__: object) -> dict[str, Any]:
    raise AssertionError("nothing is sent")


@pytest.fixture(scope="module")
def candles() -> dict[tuple[str, str], Candles]:
    """By symbol and timeframe, the candles of one object each."""
    made = {}
    for symbol in SYMBOLS:
        for frame in FRAMES:
            made[symbol, frame] = candles = Candles()
            at_ms = timeframes.floor(frame, 1_700_000_000_000)
            name = timeframes.object_name(frame, at_ms)
            while len(candles) < 50 and timeframes.object_name(frame, at_ms) == name:
                after = timeframes.following(frame, at_ms)
                number = len(candles)
                row = (at_ms, *PRICES, after - 1, 21.25 + number, number, 4.5, 9.0)
                append(candles, row, at_ms + 1)
                at_ms = after
    return made


@pytest.fixture(scope="module")
def folder(
    candles: dict[tuple[str, str], Candles], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("bucket")
    store = CandleStore(backend_of(no_call, candles_bucket="candles"))
    for (symbol, frame), stored in candles.items():
        file = root / store.key(symbol, frame, stored.open_times[0])
        file.parent.mkdir(parents=True)
        file.write_bytes(encode(stored, {}))
        for near in EMPTY.get(frame, ()):  # what was asked for in vain
            name = timeframes.object_name(frame, stored.open_times[0] + near)
            file.with_name(f"{name}.parquet").write_bytes(encode(Candles(), {}))
    return root / "candles"


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_every_candle_as_it_was_stored(
    reader: str, folder: Path, candles: dict[tuple[str, str], Candles]
) -> None:
    command = [str(PYTHON), str(ROOT / "tests" / "extra" / "read.py"), reader, str(folder)]
    environ = {**os.environ, "TZ": "UTC", "SPARK_LOCAL_IP": "127.0.0.1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=240)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    expected: dict[str, Any] = {
        name: sum(sum(each.columns[name]) for each in candles.values())
        for name in (*VALUES, "answered_at")
    }
    expected |= {"rows": sum(map(len, candles.values())), "symbols": sorted(SYMBOLS)}
    assert found == expected


def test_the_footer_says_by_which_column_the_rows_are_sorted(folder: Path) -> None:
    code = (
        "import sys, pyarrow.parquet as pq\n"
        "for file in sys.argv[1:]:\n"
        "    whole = pq.read_metadata(file)\n"
        "    assert whole.num_row_groups == (whole.num_rows > 0)\n"
        "    for at in range(whole.num_row_groups):\n"
        "        [column] = whole.row_group(at).sorting_columns\n"
        "        assert (column.column_index, column.descending) == (0, False), column\n"
    )
    files = [str(file) for file in folder.rglob("*.parquet")]
    assert len(files) == len(SYMBOLS) * (len(FRAMES) + sum(map(len, EMPTY.values())))
    ran = subprocess.run([str(PYTHON), "-c", code, *files], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr

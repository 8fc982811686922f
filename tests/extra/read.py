"""Run by the readers' Python: `read.py READER FOLDER` prints what that reader finds in the candles.

One JSON line: rows, symbols, and sums over columns, which must be the same for every reader.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def with_pandas(folder: str) -> Any:
    import pandas

    return pandas.read_parquet(folder)


def with_polars(folder: str) -> Any:
    import polars

    return (
        polars.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True).collect().to_pandas()
    )


def with_duckdb(folder: str) -> Any:
    import duckdb

    files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    return duckdb.sql(f"SELECT * FROM {files}").df()


def with_fastparquet(folder: str) -> Any:
    """Folder by folder: it takes the partition 1h for a time of day."""
    import fastparquet
    import pandas

    frames = [fastparquet.ParquetFile(str(each)) for each in sorted(Path(folder).glob("*/*"))]
    return pandas.concat([frame.to_pandas().astype({"symbol": str}) for frame in frames])


def with_spark(folder: str) -> Any:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name in ("spark.driver.bindAddress", "spark.driver.host"):
        builder = builder.config(name, "127.0.0.1")
    session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        return session.read.parquet(folder).toPandas()
    finally:
        session.stop()


READERS = {
    "pandas": with_pandas,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "fastparquet": with_fastparquet,
    "spark": with_spark,
}


def summary(frame: Any) -> dict[str, Any]:
    import pandas

    found: dict[str, Any] = {
        "rows": len(frame),
        "symbols": sorted(frame["symbol"].astype(str).unique()),
    }
    for name in ("open_time", "close_time", "answered_at"):
        times = pandas.to_datetime(frame[name], utc=True).astype("datetime64[ms, UTC]")
        found[name] = int(times.astype("int64").sum())
    for name in ("open", "high", "low", "close", "volume", "quote_volume", "trades"):
        found[name] = float(frame[name].sum())
    for name in ("taker_buy_volume", "taker_buy_quote_volume"):
        found[name] = float(frame[name].sum())
    return found


if __name__ == "__main__":
    print(json.dumps(summary(READERS[sys.argv[1]](sys.argv[2]))))

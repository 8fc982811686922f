"""What a task has collected, read back over HTTP as it is stored."""

from __future__ import annotations

import io

import httpx
from arro3.io import read_parquet

from chalicelib.core.times import parse_time
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.test_main_job import stored
from tests.e2e.waiting import ended

SYMBOL, START, END = "ATOMUSDT", "2026-03-03", "2026-03-04"


def test_candles_come_back_as_they_are_stored_whatever_form_they_take(
    cloud: Cloud, api: Client
) -> None:
    body = {"symbols": [SYMBOL], "timeframes": ["1m"], "start": START, "end": END}
    assert ended(api, api.start(**body).task_id)["status"] == "completed"
    held = [row[0] for row in stored(cloud.candles_dir, SYMBOL, "1m")]
    query = {"symbol": SYMBOL, "timeframe": "1m", "start": START, "end": END, "limit": "500"}
    found: dict[str, list[int]] = {"json": [], "csv": [], "parquet": []}
    for form, opens in found.items():
        for answer in api.candle_answers(form, query):
            if form == "json":
                opens += [parse_time(row["open_time"]) for row in answer.json()["candles"]]
            elif form == "csv":
                opens += [
                    parse_time(line.partition(",")[0]) for line in answer.text.splitlines()[1:]
                ]
            else:
                column = read_parquet(io.BytesIO(answer.content)).read_all()["open_time"]
                opens += [round(at.timestamp() * 1000) for at in column.to_pylist()]
    assert found == dict.fromkeys(found, held)
    # Whatever a browser would accept first: bytes are sent as bytes.
    accept = "text/html,application/json;q=0.9,*/*;q=0.8"
    url = f"{cloud.api_url}/api/v1/data-collector/candles"
    answer = httpx.get(url, params={**query, "format": "parquet"}, headers={"Accept": accept})
    assert answer.content[:4] == answer.content[-4:] == b"PAR1"
    known = {"Accept": accept, "If-None-Match": answer.headers["ETag"]}
    assert httpx.get(url, params={**query, "format": "parquet"}, headers=known).status_code == 304
    # A URL opens without anything that belongs to the API.
    files = [*api.candle_files(SYMBOL, "1m", START, END)]
    rows = 0
    for file in files:
        content = httpx.get(file["url"]).content
        assert len(content) == file["bytes"]
        rows += read_parquet(io.BytesIO(content)).read_all().num_rows
    assert rows == len(held) == sum(file["rows"] for file in files)

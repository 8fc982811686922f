"""A selector on the packaged application: planned, shown and collected."""

from __future__ import annotations

from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import controlled
from tests.e2e.waiting import ended


def test_the_largest_symbols_that_a_pattern_leaves_are_collected(cloud: Cloud, api: Client) -> None:
    selector = ["A*USDT", "!ADAUSDT", "!AVAXUSDT", "!A*OMUSDT", "top=3"]
    with controlled(cloud) as control:
        volumes = control.quote_volumes()
    names = [name for name in volumes if name[0] == "A" and name.endswith("USDT")]
    names = [name for name in names if name not in ("ADAUSDT", "AVAXUSDT", "ATOMUSDT")]
    largest = sorted(names, key=lambda name: -volumes[name])[:3]
    body = {"symbols": selector, "timeframes": ["6h"], "start": "2026-01-01", "end": "2026-01-03"}
    task = ended(api, api.start(**{**body, "force": True}).task_id)
    assert (task["status"], task["candles"]) == ("completed", 3 * 8)
    assert (task["request"]["symbols"], task["symbols_count"]) == (selector, 3)
    listed = api.tasks_page(status="completed")["tasks"]
    assert task["request"] in [each["request"] for each in listed]
    objects = cloud.client("s3").list_objects_v2(
        Bucket=cloud.outputs["CandlesBucket"], Prefix="candles/exchange=local/timeframe=6h/symbol=A"
    )
    collected = {entry["Key"].split("symbol=")[1].split("/")[0] for entry in objects["Contents"]}
    collected = {name for name in collected if name.endswith("USDT")}  # others collect, too
    assert collected == set(largest)

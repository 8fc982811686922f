"""Candles of two exchanges never come under one name, on the packaged application."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import controlled
from tests.e2e.waiting import ended

SYMBOL = "ATOMUSDT"


def names_of_objects(cloud: Cloud) -> set[str]:
    """The exchanges in the paths of all stored candles."""
    pages = cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key.split("/")[1] for key in keys if key.startswith("candles/")}


def at_another_root(cloud: Cloud, resource: str) -> AbstractContextManager[None]:
    """A function that is set to another root under the same name, for a while."""
    return cloud.configured(resource, EXCHANGE_URL=f"{cloud.exchange_url}/other")


def test_candles_of_the_local_exchange_are_under_its_name_and_nowhere_else(
    cloud: Cloud, api: Client
) -> None:
    task = ended(api, api.start(force=True, symbols=[SYMBOL], timeframes=["1h"]).task_id)
    assert task["status"] == "completed"
    assert names_of_objects(cloud) == {"exchange=local"}
    status = api.status()
    assert (status["exchange"], status["exchange_root"]) == ("local", "http://127.0.0.1")
    assert api.latest_prices([SYMBOL])["exchange"] == "local"
    pages = cloud.client("dynamodb").get_paginator("scan")
    for page in pages.paginate(TableName=cloud.outputs["MarketTable"]):
        for item in page["Items"]:
            kind, _, name = item["pk"]["S"].partition("#")
            assert name == "local" or kind == "COUNTED"


def test_a_function_that_is_set_to_another_root_is_refused(cloud: Cloud, api: Client) -> None:
    body = {"symbols": [SYMBOL], "timeframes": ["1d"]}
    with controlled(cloud) as exchange, at_another_root(cloud, "Collect"):
        before = exchange.requests_for_klines()
        task = ended(api, api.start(**{**body, "force": True}).task_id)
        assert exchange.requests_for_klines() == before
    assert task["status"] == "failed"
    [failure] = task["failures"]
    assert failure["reason"] == "EXCHANGE_ROOT_CHANGED"
    assert f"{cloud.exchange_url}/other" in failure["detail"]
    with at_another_root(cloud, "APIHandler"), pytest.raises(Rejected, match="EXCHANGE="):
        api.start(**{**body, "force": True})
    assert ended(api, api.start(**{**body, "force": True}).task_id)["status"] == "completed"

"""Once is enough, and what has ended stays findable, on the packaged application."""

from __future__ import annotations

import pytest

from chalicelib.core.task_keys import META, item_key
from market_data_collector.client import Client
from market_data_collector.errors import Expired
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import held_exchange
from tests.e2e.waiting import until

BODY = {"symbols": ["ARUSDT", "ZECUSDT"], "timeframes": ["8h", "12h"]}


def test_the_same_start_is_one_task_whose_end_outlives_it(cloud: Cloud, api: Client) -> None:
    alike = {"timeframes": ["12h", "8h"], "symbols": ["ZECUSDT", "ARUSDT"]}
    with held_exchange(cloud):
        first, again = api.start(**BODY).answer, api.start(**alike).answer
        assert (again["task_id"], again["deduplicated"]) == (first["task_id"], True)
        other = api.start(**{**alike, "force": True}).answer
        assert other["task_id"] != first["task_id"]
        for task in (first, other):
            api.cancel(task["task_id"])
    task_id = first["task_id"]
    cloud.client("dynamodb").delete_item(  # as its TTL would
        TableName=cloud.outputs["TasksTable"], Key=item_key(task_id, META)
    )

    def ended() -> list[dict[str, object]]:
        listed = api.history_page(status="cancelled", page_size=100)["tasks"]
        return [task for task in listed if task["task_id"] == task_id]

    [entry] = until(ended, bool)
    assert entry["asked"]["symbol_names"] == BODY["symbols"]  # type: ignore[index]
    with pytest.raises(Expired):
        api.task(task_id)

"""The limits of an owner, on the packaged application behind API Gateway."""

from __future__ import annotations

import httpx

from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import held_exchange
from tests.e2e.test_main_job import ended

START = "/api/v1/data-collector/start"
#: One unit: the newest thousand days.
BODY = {"symbols": ["MAGICUSDT"], "timeframes": ["1d"]}
FORCED = {**BODY, "force": True}


def test_what_is_above_an_owners_limits_is_refused_and_says_so(cloud: Cloud) -> None:
    with (
        Client(cloud.api_url) as api,
        cloud.configured("APIHandler", OWNER_ACTIVE_TASKS="1"),
        cloud.configured("Plan", OWNER_UNITS_PER_DAY="1"),
    ):
        two_units = {**BODY, "timeframes": ["1d", "3d"]}
        task = ended(api, api.start(**{**two_units, "force": True}).task_id)
        assert task["error"].startswith("QUOTA_UNITS_PER_DAY: 2 units are to be collected")
        with held_exchange(cloud):
            task_id = api.start(**{**BODY, "force": True}).task_id
            refused = httpx.post(cloud.api_url + START, json=FORCED, trust_env=False)
            assert (refused.status_code, refused.json()["reason"]) == (429, "QUOTA_ACTIVE_TASKS")
            assert refused.headers["Retry-After"] == "10"
            assert refused.headers["RateLimit-Policy"] == '"active_tasks";q=1;qu="tasks"'
            assert refused.headers["RateLimit"] == '"active_tasks";r=0;t=10'
            assert api.status()["limits"]["active_tasks"]["limit"] == 1
            api.cancel(task_id)
        ended(api, api.start(**{**BODY, "force": True}).task_id)  # there is room again

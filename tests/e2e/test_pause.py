"""Pausing and resuming the packaged application."""

from __future__ import annotations

from contextlib import closing, suppress

from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.test_main_job import ended
from tests.e2e.waiting import until


def test_nothing_is_asked_of_the_exchange_between_a_pause_and_its_end(cloud: Cloud) -> None:
    request = {"symbols": ["ARUSDT"], "timeframes": ["1h"]}
    with Client(cloud.api_url) as api, closing(ExchangeControl(cloud.exchange_url)) as control:
        ended(api, api.refresh_symbols().task_id)
        paused = api.pause(reason="a test")["pause"]
        try:
            waits = api.start(**{**request, "force": True}).task_id
            asked = control.requests()  # what was in flight has arrived
            until(lambda: api.status()["queues"]["work"], lambda seen: seen["delayed"] > 0)
            task = api.task(waits)
            assert task["message"].startswith(
                f"Paused by anonymous since {paused['since']} (a test)"
            )
            assert api.status()["status"] == "paused"
            assert control.requests() == asked
        finally:
            assert api.resume()["message"] == "Resumed"
        assert ended(api, api.start(**{**request, "force": True}).task_id)["status"] == "completed"
        # Its message is looked at within a minute: too long for this test.
        with suppress(Rejected):  # or it has ended meanwhile
            api.cancel(waits)
        until(
            lambda: [*api.audit(exchange="local")][-2:],
            lambda events: (
                [(each["action"], each["detail"]) for each in events]
                == [("exchange.paused", "a test"), ("exchange.resumed", "")]
            ),
        )

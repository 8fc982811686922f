"""The list of symbols on the packaged application: it changes, is refused, and grows old."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from market_data_collector.cli.api import Api, Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.test_main_job import ended
from tests.e2e.waiting import until
from tests.event_schemas import problems

KEY = {"pk": {"S": "CATALOGUE#binance"}, "sk": {"S": "CATALOGUE"}}


@pytest.fixture
def control(cloud: Cloud) -> Iterator[ExchangeControl]:
    with controlled(cloud) as control:
        yield control


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Api]:
    with Api(cloud.api_url) as api:
        ended(api, api.refresh_symbols()["task_id"])
        yield api
        ended(api, api.refresh_symbols()["task_id"])


def symbols(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.stats()["data_collector_status"]
    return found


def market_events(api: Api, action: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = api.all_audit(exchange="binance")["events"]
    return [event for event in events if event["action"] == action]


def newest(api: Api, action: str, kind: str, symbol: str) -> dict[str, Any]:
    """The newest event of the market's trail of which a part names a symbol."""

    def named() -> list[dict[str, Any]]:
        events = market_events(api, action)
        return [event for event in events if symbol in event["data"][kind]["symbols"]]

    event = until(named, bool)[-1]
    assert problems({"version": 1, "id": f"{event['subject']}:{event['seq']}", **_out(event)}) == []
    return event


def _out(event: dict[str, Any]) -> dict[str, Any]:
    """An event of the trail as it is published."""
    kept = ("action", "at", "subject", "seq", "owner", "by", "request_id", "attempt")
    return {name: event[name] for name in (*kept, "before", "after", "detail", "data")}


def test_symbols_leave_come_back_and_halt_and_a_halved_list_changes_nothing(
    cloud: Cloud, api: Api, control: ExchangeControl
) -> None:
    gone = {"kind": "delisted", "match": {"symbol": "ZENUSDT"}}
    with control.fault(**gone):
        ended(api, api.refresh_symbols()["task_id"])
        assert "ZENUSDT" in symbols(api)["delisted_symbols"]
        assert "ZENUSDT" not in symbols(api)["available_symbols"]
        newest(api, "symbols.changed", "removed", "ZENUSDT")
    history = {"symbols": ["ZENUSDT"], "timeframes": ["1d"], "start": "2026-01-01"}
    task_id = api.start({**history, "end": "2026-01-03"})["task_id"]
    assert ended(api, task_id)["status"] == "completed"

    with control.fault(**gone, mode="break"):
        ended(api, api.refresh_symbols()["task_id"])
        assert symbols(api)["delisted_symbols"] == {}
        newest(api, "symbols.changed", "added", "ZENUSDT")
    ended(api, api.refresh_symbols()["task_id"])
    newest(api, "symbols.changed", "resumed", "ZENUSDT")

    before = symbols(api)
    with control.fault(kind="short_listing", percent=60):
        task = ended(api, api.refresh_symbols()["task_id"])
        assert task["error"].startswith("CATALOGUE_REFUSED")
        assert symbols(api) == before
        until(lambda: market_events(api, "symbols.refused"), bool)
        task = ended(api, api.refresh_symbols(accept_refused=True)["task_id"])
        assert task["status"] == "completed"
        assert symbols(api)["symbols_count"] < before["symbols_count"] / 2
    ended(api, api.refresh_symbols()["task_id"])
    assert symbols(api)["available_symbols"] == before["available_symbols"]


def test_a_new_symbol_is_known_soon_after_somebody_asked_for_it(
    cloud: Cloud, api: Api, control: ExchangeControl
) -> None:
    with control.fault(kind="delisted", match={"symbol": "ATOMUSDT"}):
        ended(api, api.refresh_symbols()["task_id"])
        forget(cloud)  # as if it had never been listed
        ended(api, api.refresh_symbols()["task_id"])
    body = {"symbols": ["ATOMUSDT"], "timeframes": ["1d"]}
    with pytest.raises(Rejected, match="try again in a minute"):
        api.start(body)
    until(lambda: symbols(api)["available_symbols"], lambda seen: "ATOMUSDT" in seen)
    assert ended(api, api.start(body)["task_id"])["status"] == "completed"


def test_an_old_list_is_read_again_by_itself(cloud: Cloud, api: Api) -> None:
    forget(cloud)
    seen = until(lambda: symbols(api), lambda seen: seen["symbols_count"] > 100, 150)
    assert seen["symbols_refreshed_at"] is not None


def forget(cloud: Cloud) -> None:
    cloud.client("dynamodb").delete_item(TableName=cloud.outputs["MarketTable"], Key=KEY)

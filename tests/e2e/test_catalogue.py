"""The list of symbols on the packaged application: it changes, is refused, and grows old."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.waiting import ended, until


@pytest.fixture
def control(cloud: Cloud) -> Iterator[ExchangeControl]:
    with controlled(cloud) as control:
        yield control


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Client]:
    with Client(cloud.api_url) as api:
        ended(api, api.refresh_symbols().task_id)
        yield api
        ended(api, api.refresh_symbols().task_id)


def symbols(api: Client) -> dict[str, Any]:
    found: dict[str, Any] = api.stats()["data_collector_status"]
    return found


def market_events(api: Client, action: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [*api.audit(exchange="local")]
    return [event for event in events if event["action"] == action]


def until_recorded(api: Client, kind: str, symbol: str) -> None:
    """Wait for a symbols.changed event that names a symbol as removed, added, resumed ..."""

    def named() -> bool:
        events = market_events(api, "symbols.changed")
        return any(symbol in event["data"][kind]["symbols"] for event in events)

    until(named, bool)


def test_symbols_leave_come_back_and_halt_and_a_halved_list_changes_nothing(
    cloud: Cloud, api: Client, control: ExchangeControl
) -> None:
    gone = {"kind": "delisted", "match": {"symbol": "ZENUSDT"}}
    with control.fault(**gone):
        ended(api, api.refresh_symbols().task_id)
        assert "ZENUSDT" in symbols(api)["delisted_symbols"]
        assert "ZENUSDT" not in symbols(api)["available_symbols"]
        until_recorded(api, "removed", "ZENUSDT")
    history = {"symbols": ["ZENUSDT"], "timeframes": ["1d"], "start": "2026-01-01"}
    task_id = api.start(**{**history, "end": "2026-01-03"}).task_id
    assert ended(api, task_id)["status"] == "completed"

    with control.fault(**gone, mode="break"):
        ended(api, api.refresh_symbols().task_id)
        assert symbols(api)["delisted_symbols"] == {}
        until_recorded(api, "added", "ZENUSDT")
    ended(api, api.refresh_symbols().task_id)
    until_recorded(api, "resumed", "ZENUSDT")

    before = symbols(api)
    with control.fault(kind="short_listing", percent=60):
        task = ended(api, api.refresh_symbols().task_id)
        assert task["error"].startswith("CATALOGUE_REFUSED")
        assert symbols(api) == before
        until(lambda: market_events(api, "symbols.refused"), bool)
        task = ended(api, api.refresh_symbols(accept_refused=True).task_id)
        assert task["status"] == "completed"
        assert symbols(api)["symbols_count"] < before["symbols_count"] / 2
    ended(api, api.refresh_symbols().task_id)
    assert symbols(api)["available_symbols"] == before["available_symbols"]


def test_a_new_symbol_is_known_soon_after_somebody_asked_for_it(
    cloud: Cloud, api: Client, control: ExchangeControl
) -> None:
    with control.fault(kind="delisted", match={"symbol": "ATOMUSDT"}):
        ended(api, api.refresh_symbols().task_id)
        forget(cloud)  # as if it had never been listed
        ended(api, api.refresh_symbols().task_id)
    body = {"symbols": ["ATOMUSDT"], "timeframes": ["1d"]}
    with pytest.raises(Rejected, match="try again in a minute"):
        api.start(**body)
    until(lambda: symbols(api)["available_symbols"], lambda seen: "ATOMUSDT" in seen)
    assert ended(api, api.start(**body).task_id)["status"] == "completed"


def test_an_old_list_is_read_again_by_itself(cloud: Cloud, api: Client) -> None:
    forget(cloud)
    forget(cloud, "REFRESH")  # another refresh began less than a minute ago
    cloud.invoke("RefreshPrices", {})  # which its schedule does each minute
    seen = until(lambda: symbols(api), lambda seen: seen["symbols_count"] > 100, 150)
    assert seen["symbols_refreshed_at"] is not None


def forget(cloud: Cloud, kind: str = "CATALOGUE") -> None:
    key = {"pk": {"S": f"{kind}#local"}, "sk": {"S": kind}}
    cloud.client("dynamodb").delete_item(TableName=cloud.outputs["MarketTable"], Key=key)

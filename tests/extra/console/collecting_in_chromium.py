"""Collections from the console: asked for, watched to their end, cancelled, retried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from market_data_collector.client import Client
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.stack import Cloud
from tests.e2e.waiting import ended
from tests.extra.console.browser import Console, picture, serious_findings

INVALID = {"status": 400, "code": -1121, "msg": "Invalid symbol."}


@pytest.fixture
def control(cloud: Cloud) -> Iterator[ExchangeControl]:
    control = ExchangeControl(cloud.exchange_url)
    yield control
    control.close()


def test_a_collection_is_quoted_started_and_watched_to_its_end(
    console: Console, api: Client
) -> None:
    page = console.open("collect")
    page.locator("input[name=search]").fill("ADA*")
    page.locator("button", has_text="Add the pattern ADA*").click()
    page.get_by_label("Quote asset").select_option("USDT")
    page.locator("input[name=search]").fill("XRPUSDT")
    page.keyboard.press("Enter")
    page.locator(".selected .chip").nth(2).wait_for()
    for timeframe in ("1m", "5m", "15m", "4h", "1d"):
        page.get_by_label(timeframe, exact=True).uncheck()
    quote = page.locator(".quote[aria-busy=false]")
    request = {"symbols": ["ADA*", "quote=USDT", "XRPUSDT"], "timeframes": ["1h"]}
    units = api.quote(**request)["units"]["total"]
    quote.locator(".figure", has_text="Units").locator("dd", has_text=str(units)).wait_for()
    for name in ("Requests", "Time", "Cost"):
        assert quote.locator(".figure", has_text=name).first.is_visible()
    assert not serious_findings(page)
    picture(page, "quote")
    page.locator("button", has_text="Start collecting").click()
    page.locator(".task .pill.good", has_text="completed").wait_for()
    page.locator(".figure dd", has_text=f"{units} of {units}").wait_for()
    assert not serious_findings(page)
    task = api.task(page.url.rsplit("/", 1)[1])
    assert (task["status"], task["units"]["succeeded"]) == ("completed", units)
    console.show(page, "tasks")
    page.locator("td a", has_text="ADA*").wait_for()


def test_a_running_collection_is_cancelled(
    console: Console, api: Client, control: ExchangeControl
) -> None:
    page = console.open("tasks")
    # Most units are quick, and some hold the task.
    with control.fault(kind="latency", delay_ms=6000, match={"interval": "1m"}):
        task_id = api.start("top=60").task_id
        row = page.locator(".running li", has=page.locator(f"a[href='#/tasks/{task_id}']"))
        row.locator(".pill", has_text="running").wait_for()
        row.get_by_text("Collected data for").wait_for()
        picture(page, "running")
        row.locator("a").click()
        page.locator("button", has_text="Cancel").click()
        page.locator(".task .pill", has_text="cancelled").wait_for()
    assert api.task(task_id)["status"] == "cancelled"


def test_failures_are_grouped_by_reason_and_retried(
    console: Console, api: Client, control: ExchangeControl
) -> None:
    request = {"symbols": ["DOGEUSDT", "TRXUSDT"], "timeframes": ["1h"]}
    with control.fault(kind="status", **INVALID, match={"symbol": "DOGEUSDT"}):
        task = ended(api, api.start(**request).task_id)
    assert task["units"]["failed"] == 1, task
    page = console.open(f"tasks/{task['task_id']}")
    failures = page.get_by_role("table", name="Failures by reason")
    assert "DOGEUSDT 1h" in failures.inner_text()
    assert not serious_findings(page)
    picture(page, "task")
    page.locator("button", has_text="Retry 1 unit").click()
    page.locator(".figure", has_text="Attempt").locator("dd", has_text="2").wait_for()
    page.locator(".figure", has_text="Failed").locator("dd", has_text="0").wait_for()
    assert ended(api, task["task_id"])["units"] == {**task["units"], "succeeded": 2, "failed": 0}

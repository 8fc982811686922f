"""What is held: the map of coverage and the chart, gaps that are filled from them, and files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arro3.io import read_parquet

from market_data_collector.client import Client
from tests.e2e.waiting import ended
from tests.extra.console.browser import Console, picture, serious_findings

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(scope="module")
def unheld(api: Client) -> Iterator[str]:
    """Symbols of which nothing is stored, and that trade each hour, one after the other."""
    names = api.stats()["data_collector_status"]["available_symbols"]
    held = {row["symbol"] for row in api.coverage(explain=False)["coverage"]}
    return (name for name in reversed(names) if name not in held and re.match("[A-Z]+USDT$", name))


def _day(days_ago: int) -> str:
    return (TODAY - timedelta(days=days_ago)).date().isoformat()


def _collect(api: Client, symbol: str, timeframe: str, start: str, end: str) -> None:
    task = ended(api, api.start(symbol, timeframe, start, end).task_id)
    assert task["status"] == "completed", task


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    return expect(locator)


def test_cells_are_selected_by_pointer_and_collected(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    one, other = sorted([next(unheld), next(unheld)])
    around = f"start={_day(6)}&end={_day(0)}"
    page = console.open(f"coverage?symbols={one},{other}&timeframes=1h&{around}")
    _expect(page.locator("td.is-missing")).to_have_count(12)
    page.locator(f"[data-key='{one} 1h'][data-at='1']").hover()
    page.mouse.down()
    page.locator(f"[data-key='{other} 1h'][data-at='3']").hover()
    page.mouse.up()
    _expect(page.locator("td[aria-selected=true]")).to_have_count(6)
    _expect(page.locator(".selection")).to_contain_text("6 cells: 0 of 144 candles held, 144 mis")
    page.get_by_role("button", name="Collect what is missing").click()
    _expect(page.locator(".task-line[data-status=completed]")).to_have_count(1)
    _expect(page.locator("td.is-held")).to_have_count(6)
    _expect(page.locator("td.is-missing")).to_have_count(6)
    assert not serious_findings(page)
    picture(page, "coverage-selected")
    rows = api.coverage([one, other], "1h", _day(6), _day(0), resolution="day")["coverage"]
    assert [[cell["held"] for cell in row["cells"]] for row in rows] == [[0, 24, 24, 24, 0, 0]] * 2


def test_a_cell_is_reached_by_keyboard_explained_and_filled(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    symbol = next(unheld)
    _collect(api, symbol, "1h", _day(3), _day(2))
    page = console.open(f"coverage?symbols={symbol}&timeframes=1h&start={_day(3)}&end={_day(0)}")
    page.locator("td.map-cell[tabindex='0']").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    _expect(page.locator("td[aria-selected=true]")).to_have_count(2)
    page.keyboard.press("Escape")
    _expect(page.locator("td[aria-selected=true]")).to_have_count(0)
    page.keyboard.press(" ")
    _expect(page.locator("td[aria-selected=true]")).to_have_count(1)
    gaps = page.get_by_role("table", name=f"Gaps of {symbol} 1h")
    _expect(gaps).to_contain_text("Not collected")
    _expect(gaps).to_contain_text("never")
    gaps.get_by_role("button", name="Collect").click()
    _expect(page.locator(".task-line[data-status=completed]")).to_have_count(1)
    _expect(page.locator("td.is-held")).to_have_count(2)
    _expect(gaps).to_have_count(0)


def test_patterns_choose_symbols_and_months_zoom_into_days(console: Console, api: Client) -> None:
    page = console.open("coverage")
    page.get_by_label("Symbols").fill("BTCU*, eth*usdt")
    page.get_by_label("First day").fill("2026-01-01")
    page.get_by_label("1h", exact=True).check()
    page.get_by_role("button", name="Show").click()
    _expect(page.locator(".card", has_text="Held, by month")).to_be_visible()
    page.locator("[data-key='BTCUSDT 1h'][data-at='2']").click()
    page.get_by_role("button", name="Zoom in").click()
    _expect(page.locator(".card", has_text="Held, by day")).to_be_visible()
    _expect(page.get_by_label("Last day")).to_have_value("2026-03-31")
    for key in ("BTCUSDT 1h", "ETHUSDT 1h"):
        _expect(page.locator(f"[data-row='{key}']")).to_be_visible()


@pytest.mark.parametrize("symbols", ["BTC-*", "BTC_*,(*", "[*", "\\*"])
def test_any_pattern_can_be_asked_for(console: Console, symbols: str) -> None:
    page = console.open(f"coverage?symbols={symbols}&timeframes=1h")
    _expect(page.locator("main")).to_contain_text("Nothing is stored of what you chose")
    page.get_by_label("Symbols").fill("!*UP*")
    page.get_by_role("button", name="Show").click()
    _expect(page.get_by_role("alert")).to_contain_text("names and patterns")


def test_a_gap_of_years_ago_is_no_doubt_of_today(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    """Candles of 4h are in one file, whose gaps are counted as a whole."""
    symbol = next(unheld)
    answers: list[dict[str, Any]] = []

    def doubt(route: Any) -> None:
        answer = route.fetch().json()
        if "explain=false" in route.request.url:
            for cell in answer["coverage"][0]["cells"]:
                cell["held"], cell["uncertain"] = cell["held"] - 3, 3
        answers.append(answer)
        route.fulfill(json=answer)

    _collect(api, symbol, "4h", f"{_day(6)}T12:00:00Z", _day(0))
    page = console.open("audit")
    page.route("**/coverage?*", doubt)
    around = f"start={_day(6)}&end={_day(0)}"
    console.show(page, f"coverage?symbols={symbol}&timeframes=4h&{around}")
    _expect(page.locator("td.is-held")).to_have_count(5)
    _expect(page.locator("td.is-part.level-2")).to_have_count(1)
    assert len(answers) == 2


def test_a_chart_that_was_empty_loads_no_more_than_any_other(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    symbol = next(unheld)
    page = console.open(f"chart/{symbol}?timeframe=1m")
    _expect(page.locator(".chart-note")).to_contain_text("nothing is stored")
    page.locator(".connection.live").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    _collect(api, symbol, "1m", _day(12), _day(0))
    card = page.locator(".chart-card")
    _expect(card).to_have_attribute("data-phase", "drawn")
    page.wait_for_timeout(1000)
    assert int(card.get_attribute("data-rows")) < 12 * 1440
    assert sum("/candles?" in url for url in asked) < 12


def test_a_gap_of_the_chart_is_shown_named_and_filled(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    symbol = next(unheld)
    _collect(api, symbol, "1h", _day(9), _day(6))
    _collect(api, symbol, "1h", _day(5), _day(0))
    page = console.open(f"chart/{symbol}?timeframe=1h")
    gaps = page.get_by_role("table", name=f"Gaps of {symbol} 1h")
    row = gaps.get_by_role("row").filter(has_text=f"{_day(6)} 00:00")
    _expect(row).to_contain_text("Not collected")
    row.get_by_role("button", name="Show").click()
    box = page.locator(".chart-box").bounding_box()
    places = range(40, int(box["width"]) - 90, 6)
    assert any(_named(page, box["x"] + at, box["y"] + 120) for at in places)
    assert not serious_findings(page)
    picture(page, "chart-gap")
    row.get_by_role("button", name="Collect").click()
    _expect(page.locator(".task-line[data-status=completed]")).to_have_count(1)
    _expect(row).to_have_count(0)
    stored = api.candles(symbol, "1h", end=_day(0))
    # What opened today may be missing still: it is on the chart's list, and not in the range.
    _expect(page.locator(".chart-card")).to_have_attribute("data-rows", str(len(stored)))
    assert len(stored) == 9 * 24


def _named(page: Any, x: float, y: float) -> bool:
    page.mouse.move(x, y)
    return "Not collected" in page.locator(".looked").inner_text()


def test_older_candles_come_by_scrolling_and_the_newest_by_themselves(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    symbol = next(unheld)
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=30)
    _collect(api, symbol, "1m", (now - timedelta(hours=60)).isoformat(), now.isoformat())
    page = console.open(f"chart/{symbol}?timeframe=1m")
    card = page.locator(".chart-card")
    _expect(card).to_have_attribute("data-rows", "500")
    page.locator(".connection.live").wait_for()
    box = page.locator(".chart-box").bounding_box()
    x, y = box["x"] + 400, box["y"] + 150
    for _ in range(25):  # by pointer ...
        if card.get_attribute("data-rows") != "500":
            break
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 380, y, steps=4)
        page.mouse.up()
        page.wait_for_timeout(100)
    _expect(card).to_have_attribute("data-rows", "1500")
    stored = _stored(api, symbol)
    page.locator(".chart-box").focus()
    for _ in range(80):  # ... and by keyboard
        if card.get_attribute("data-rows") == str(stored):
            break
        page.keyboard.press("PageUp")
        page.wait_for_timeout(100)
    _expect(card).to_have_attribute("data-rows", str(stored))
    before = int(card.get_attribute("data-last"))
    _collect(api, symbol, "1m", now.isoformat(), (now + timedelta(minutes=20)).isoformat())
    _expect(card).to_have_attribute("data-rows", str(_stored(api, symbol)))
    assert int(card.get_attribute("data-last")) > before


def test_without_a_socket_the_chart_asks_for_what_is_new(
    console: Console, api: Client, unheld: Iterator[str]
) -> None:
    console.expected += ["Failed to load resource"]
    symbol = next(unheld)
    _collect(api, symbol, "1h", _day(4), _day(2))
    page = console.open("audit")
    page.route("**/ws-ticket", lambda route: route.abort())
    console.show(page, f"chart/{symbol}?timeframe=1h")
    page.locator(".connection.polling").wait_for()
    card = page.locator(".chart-card")
    _expect(card).to_have_attribute("data-rows", "48")
    _collect(api, symbol, "1h", _day(2), _day(1))
    _expect(card).to_have_attribute("data-rows", "72")


def _stored(api: Client, symbol: str) -> int:
    return len(api.candles(symbol, "1m"))


def test_the_timeframe_switches_and_nothing_stored_says_what_to_do(
    console: Console, unheld: Iterator[str]
) -> None:
    page = console.open("chart/BTCUSDT?timeframe=1m")
    page.get_by_role("button", name="4h", exact=True).click()
    page.wait_for_url("**/#/chart/BTCUSDT?timeframe=4h")
    _expect(page.locator(".chart-card[data-phase=drawn]")).to_be_visible()
    symbol = next(unheld)
    console.show(page, f"chart/{symbol}?timeframe=1m")
    _expect(page.locator(".chart-note")).to_contain_text(f"nothing is stored of {symbol} 1m")
    page.get_by_role("link", name="Collect it").click()
    _expect(page.locator("h1")).to_have_text("New collection")


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_what_is_downloaded_is_what_is_stored(
    console: Console, api: Client, form: str, tmp_path: Any
) -> None:
    # More than one page of CSV, and one file of Parquet.
    _collect(api, "BTCUSDT", "1m", _day(10), _day(0))
    page = console.open("chart/BTCUSDT?timeframe=1m")
    page.get_by_label("From (UTC)").fill(f"{_day(10)}T00:00")
    page.get_by_label("To (UTC)").fill(f"{_day(0)}T00:00")
    with page.expect_download() as download:
        page.get_by_role("button", name=form, exact=True).click()
    name = f"BTCUSDT-1m-{_day(10)}-{_day(0)}.{form.lower()}"
    assert download.value.suggested_filename == name
    download.value.save_as(tmp_path / name)
    _expect(page.get_by_text(f"Saved {name}")).to_be_visible()
    content = (tmp_path / name).read_bytes()
    asked = {"symbol": "BTCUSDT", "timeframe": "1m", "start": _day(10), "end": _day(0)}
    stored = [
        candle
        for answer in api.candle_answers("json", {**asked, "limit": "10000"})
        for candle in answer.json()["candles"]
    ]
    assert len(stored) == 14_400
    if form == "CSV":
        rows = [*csv.DictReader(io.StringIO(content.decode()))]
        assert [row["open_time"] for row in rows] == [candle["open_time"] for candle in stored]
        closes = [float(row["close"]) for row in rows]
    else:
        closes = read_parquet(io.BytesIO(content)).read_all()["close"].to_pylist()
    assert closes == [candle["close"] for candle in stored]

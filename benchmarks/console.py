"""How soon the console shows a chart, and what a browser loads for it: on the stack that `make run`
has left running here, in Debian's Chromium (local/browser.sh makes the environment).

Compared with the smallest file of the same server, in the same run: what any page costs there.
"""

from __future__ import annotations

import gzip
import json
import statistics
import urllib.request
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from benchmarks.report import Report, verdict
from infra.package import ROOT
from tests.extra.console.browser import WIDE, chromium

ENDPOINTS = ROOT / ".local" / "endpoints.json"
CHART = "chart/BTCUSDT?timeframe=1m"
RUNS = 15
#: Gzipped, of the page and its files.
GOAL_BYTES = 100_000
BASELINE, FIRST, AGAIN = "an empty page", "a chart, first visit", "a chart, files kept"
_LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"
_DRAWN = "() => performance.getEntriesByName('chart-drawn')[0]?.startTime"


def measure() -> Report:
    if not ENDPOINTS.is_file():
        raise SystemExit("Nothing runs here. `make run` starts it.")
    origin = json.loads(ENDPOINTS.read_text("utf-8"))["api_url"].rstrip("/")
    chart = f"{origin}/api/#/{CHART}"
    times: dict[str, list[float]] = {BASELINE: [], FIRST: [], AGAIN: []}
    with chromium() as browser:
        bodies = _loaded(browser, chart)
        icon = next(url for url in bodies if url.endswith("/icon.svg"))
        for _ in range(RUNS):
            with browser.new_context(viewport={"width": WIDE, "height": 820}) as context:
                times[BASELINE].append(_ms(context, icon, _LOADED))
                times[FIRST].append(_ms(context, chart, _DRAWN))
                times[AGAIN].append(_ms(context, chart, _DRAWN))
    return _report(times, bodies)


def _ms(context: Any, url: str, moment: str) -> float:
    """From navigation to that moment, in a page of its own."""
    page = context.new_page()
    page.goto(url)
    found = page.wait_for_function(moment).json_value()
    page.close()
    return float(found)


def _loaded(browser: Any, url: str) -> dict[str, bytes]:
    """URL -> body, of all that a browser asks for until the chart is drawn."""
    asked: list[str] = []
    with browser.new_context(viewport={"width": WIDE, "height": 820}) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_function(_DRAWN)
        asked = [each for each in asked if each.startswith("http") and "ws-ticket" not in each]
        icon = page.locator("link[rel=icon]").get_attribute("href")
    wanted = dict.fromkeys([*asked, f"{urlsplit(url).scheme}://{urlsplit(url).netloc}{icon}"])
    return {each: _body(each) for each in wanted}


def _body(url: str) -> bytes:
    with urllib.request.urlopen(url.split("#")[0]) as answer:
        return bytes(answer.read())


def _report(times: dict[str, list[float]], bodies: dict[str, bytes]) -> Report:
    report = Report(
        "console: until a chart is drawn",
        ("what", "figure", "of the empty page", "goal", "verdict"),
    )
    base = statistics.median(times[BASELINE])
    for name, found in times.items():
        middle = statistics.median(found)
        report.add(
            name,
            f"{middle:.0f} ms ({min(found):.0f} to {max(found):.0f})",
            f"{middle / base:.1f}",
            "",
            "",
        )
    files = {url: body for url, body in bodies.items() if "/v1/" not in url}
    total = sum(map(_zipped, files.values()))
    report.add(
        f"bytes of {len(files)} files, gzipped",
        f"{total:,}",
        "",
        f"<= {GOAL_BYTES:,}",
        verdict(total, GOAL_BYTES),
    )
    for url, body in sorted(bodies.items(), key=lambda item: -_zipped(item[1])):
        name = PurePosixPath(urlsplit(url).path).name or "index.html"
        report.add(
            f"· {'answer ' if '/v1/' in url else ''}{name}", f"{_zipped(body):,}", "", "", ""
        )
    report.remarks += [
        f"medians of {RUNS} runs, by turns; from navigation to the frame in which the chart's "
        "library draws 500 candles, or to the load event of the empty page (the console's icon)",
        "first visit: nothing in the browser's cache but the icon; files kept: the page and the "
        "API's answers are asked for again",
        "sizes as API Gateway would send them, level 6; the embedded cloud compresses nothing, so "
        "that the times are those of the full bytes on this machine",
    ]
    return report


def _zipped(body: bytes) -> int:
    return len(gzip.compress(body, 6))

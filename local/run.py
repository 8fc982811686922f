"""`make run`: from nothing to real candles on this machine, then leave it running."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from local.aws import Account
from local.failures import StartFailed
from local.options import Options, options
from local.stack import Stack
from market_data_collector.cli.api import Api
from market_data_collector.cli.problems import ApiError
from market_data_collector.cli.render import wait_for_task


class Stages:
    """Prints each stage with its time."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        took = time.monotonic() - started
        self.console.print(f"[green]✓[/green] {what:<16} [dim]{took:6.1f} s[/dim]", highlight=False)

    def detail(self, line: str) -> None:
        self.console.print(f"    [dim]{escape(line)}[/dim]", highlight=False, soft_wrap=True)


def run(chosen: Options, console: Console) -> int:
    stages, stack = Stages(console), Stack(chosen)
    with stages.stage("environment"):
        stack.check_machine()
    with stages.stage("embedded cloud"):
        to = stack.bring_up_cloud(stages.detail)
    with stages.stage("exchange"):
        exchange_url = stack.bring_up_exchange()
    with stages.stage("package"):
        built, made_from = stack.bring_up_package(exchange_url, stages.detail)
    with stages.stage("deploy"):
        outputs = stack.bring_up_deployment(to, built, made_from, stages.detail)
        urls = stack.bring_up_gateway(to)
        stack.bring_up_metrics(to)
        key = stack.bring_up_key(to, built, outputs)
        candles = stack.write_endpoints(to, outputs, exchange_url, urls, key)
    with Api(urls[0], key=key) as api:
        with stages.stage("symbols"):
            _must_complete(_task(api, api.refresh_symbols(), console))
        started = time.monotonic()
        with stages.stage("collection"):
            task = _task(api, api.start({"symbols": chosen.symbols}), console)
        _must_complete(task)
        _summary(console, task, time.monotonic() - started)
    _where(console, urls, exchange_url, to, candles)
    return 0


def _task(api: Api, submitted: dict[str, Any], console: Console) -> dict[str, Any]:
    return wait_for_task(api, submitted["task_id"], console)


def _must_complete(task: dict[str, Any]) -> None:
    if task["status"] != "completed":
        raise StartFailed(
            f"The task {task.get('task_id')} ended {task['status']}: "
            f"{task.get('error') or task.get('message')}"
        )


def _summary(console: Console, task: dict[str, Any], seconds: float) -> None:
    units = task.get("units") or {}
    result = task.get("result") or {}
    candles = result.get("candles", task.get("candles", 0))
    console.print(
        f"\n{units.get('succeeded', 0)} of {units.get('total', 0)} units, "
        f"{candles:,} candles in {seconds:.1f} s",
        highlight=False,
    )
    for failure in (task.get("failures") or [])[:10]:
        console.print(f"  failed: {failure}", markup=False, highlight=False)


def _where(
    console: Console, urls: tuple[str, str], exchange_url: str, to: Account, candles: Path | None
) -> None:
    lines = ["", *_candles(candles)]
    lines += [
        f"API        {urls[0]}/api/v1/data-collector/status",
        f"WebSocket  {urls[1]}",
        f"Exchange   {exchange_url}",
        f"AWS        {to.endpoint_url}",
        "Client     .venv/bin/data-collector --help",
        "",
        "All of it keeps running; `make down` ends it.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _candles(folder: Path | None) -> list[str]:
    if folder is None:
        return ["Candles    in the bucket that .local/endpoints.json names"]
    query = (
        "SELECT exchange, symbol, timeframe, count(*) AS candles, max(open_time) AS newest "
        f"FROM read_parquet('{folder}/candles/**/*.parquet', hive_partitioning=true) "
        "GROUP BY ALL ORDER BY ALL"
    )
    return [
        f"Candles    {folder}/candles",
        f'Read them  .venv/bin/python -c "import duckdb; print(duckdb.sql(\\"{query}\\"))"',
    ]


def main() -> int:
    console = Console()
    try:
        return run(options(os.environ), console)
    except (StartFailed, ApiError) as error:
        console.print(f"[red]✗[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; `make down` ends what is running.")
        return 130


if __name__ == "__main__":
    sys.exit(main())

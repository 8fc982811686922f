"""`make run`: from nothing to real candles on this machine, then leave it running."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape

from local.aws import Account
from local.failures import StartFailed
from local.layout import HOME, LOCK
from local.lock import RUN, acquire
from local.options import Options, options
from local.packaged import current_package
from local.stack import Stack
from local.watchdog import Watchdog
from market_data_collector.cli.render import follow
from market_data_collector.client import Client
from market_data_collector.errors import ApiError
from market_data_collector.jobs import Job

#: What changes of a task while it makes progress.
_MOVING = ("status", "progress", "units", "message", "attempt")


class Stages:
    """Prints each stage with its time, and what does not answer where one takes long."""

    def __init__(self, console: Console, silent: Callable[[], list[str]]) -> None:
        self.console = console
        self._watchdog = Watchdog(silent, self._print)

    def watching(self) -> AbstractContextManager[None]:
        return self._watchdog.watching()

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        self._watchdog.happened()
        started = time.monotonic()
        yield
        took = time.monotonic() - started
        self.console.print(f"[green]✓[/green] {what:<16} [dim]{took:6.1f} s[/dim]", highlight=False)

    def detail(self, line: str) -> None:
        self._watchdog.happened()
        self._print(line)

    def _print(self, line: str) -> None:
        self.console.print(f"    [dim]{escape(line)}[/dim]", highlight=False, soft_wrap=True)

    def follow(self, job: Job) -> Mapping[str, Any]:
        """The task when it has ended; its progress is shown."""
        return follow(self._noticed(job.progress()), self.console)

    def _noticed(self, views: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        before: object = None
        for view in views:
            if before != (before := [view.get(name) for name in _MOVING]):
                self._watchdog.happened()
            yield view


def run(chosen: Options, console: Console) -> int:
    stack = Stack(chosen)
    stages = Stages(console, stack.silent)
    HOME.mkdir(exist_ok=True)
    acquire(LOCK, RUN, stages.detail)
    with stages.watching():
        return _bring_up(stack, stages, chosen)


def _bring_up(stack: Stack, stages: Stages, chosen: Options) -> int:
    with stages.stage("environment"):
        stack.check_machine()
    with stages.stage("embedded cloud"):
        to = stack.bring_up_cloud(stages.detail)
    with stages.stage("exchange"):
        exchange_url = stack.bring_up_exchange(stages.detail)
    with stages.stage("package"):
        built, made_from = current_package(chosen, exchange_url, stages.detail)
    with stages.stage("deploy"):
        outputs = stack.bring_up_deployment(to, built, made_from, stages.detail)
        urls = stack.bring_up_gateway(to, stages.detail)
        stack.bring_up_metrics(to)
        key = stack.bring_up_key(to, built, outputs)
        candles = stack.write_endpoints(to, outputs, exchange_url, urls, key)
        stack.save_cloud()
    with Client(urls[0], key=key) as api:
        with stages.stage("symbols"):
            _must_complete(stages.follow(api.refresh_symbols()))
        started = time.monotonic()
        with stages.stage("collection"):
            task = stages.follow(api.start(chosen.symbols))
        stack.save_cloud()
        _must_complete(task)
        _summary(stages.console, task, time.monotonic() - started)
    _where(stages.console, urls, exchange_url, to, candles, asks_for_key=key is not None)
    return 0


def _must_complete(task: Mapping[str, Any]) -> None:
    if task["status"] != "completed":
        raise StartFailed(
            f"The task {task.get('task_id')} ended {task['status']}: "
            f"{task.get('error') or task.get('message')}"
        )


def _summary(console: Console, task: Mapping[str, Any], seconds: float) -> None:
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
    console: Console,
    urls: tuple[str, str],
    exchange_url: str,
    to: Account,
    candles: Path | None,
    *,
    asks_for_key: bool,
) -> None:
    lines = ["", f"Console    {urls[0]}/", *_candles(candles)]
    lines += [
        f"API        {urls[0]}/api/v1/data-collector/status",
        f"WebSocket  {urls[1]}",
        f"Exchange   {exchange_url}",
        f"AWS        {to.endpoint_url}",
        "Client     .venv/bin/data-collector --help",
    ]
    if asks_for_key:
        lines.append("Key        an admin's, in .local/endpoints.json, where the client reads it")
    lines += [
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
    except (StartFailed, ApiError, BotoCoreError, ClientError) as error:
        console.print(f"[red]✗[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1

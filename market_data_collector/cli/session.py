"""One run of the client: where it prints, in which form, and the API it talks to."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console

from market_data_collector.cli.api import Api
from market_data_collector.cli.listening import Opener, open_socket
from market_data_collector.cli.locate import UnusableUrl, find_key, find_url
from market_data_collector.cli.problems import not_this_api
from market_data_collector.cli.render import counted, wait_for_task
from market_data_collector.cli.short_ids import whole_id
from market_data_collector.cli.tables import submitted, summary
from market_data_collector.cli.values import plain

# No table is this wide: in a pipe nothing is cut.
UNLIMITED = 10_000

ALL_DONE, ENDED_BADLY, UNITS_FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass
class Session:
    """`transport` and `sleep` replace the network and the clock in tests."""

    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    json: bool = False
    api_url: str | None = None
    sign: bool = False
    key: str | None = None
    opener: Opener = open_socket
    _api: Api | None = field(default=None, init=False)

    @property
    def api(self) -> Api:
        """Found and opened at its first use; raises click.UsageError for an unusable URL."""
        if self._api is None:
            try:
                url = find_url(self.api_url, os.environ, Path.cwd())
                key = find_key(self.key, os.environ, Path.cwd(), url)
                self._api = Api(
                    url,
                    transport=self.transport,
                    sleep=self.sleep,
                    auth=self._signature(),
                    key=key,
                )
            except UnusableUrl as error:
                raise click.UsageError(str(error)) from error
        return self._api

    def _signature(self) -> httpx.Auth | None:
        if not self.sign:
            return None
        from market_data_collector.cli.signing import (
            Signed,  # loads botocore, which most commands can do without
        )

        return Signed()

    def close(self) -> None:
        if self._api is not None:
            self._api.close()

    def task_id(self, text: str) -> str:
        """The whole id of a task, of which `text` may be the beginning (cli/short_ids.py)."""
        return whole_id(self.api, text)

    def show(self, answer: dict[str, Any], render: Callable[..., None], *args: Any) -> None:
        """`answer` as one JSON document, or `render(console, …)`: by default of the answer."""
        if self.json:
            self.print_json(answer)
        else:
            wide = None if sys.stdout.isatty() else UNLIMITED
            render(Console(file=sys.stdout, width=wide, highlight=False), *(args or (answer,)))

    def print_json(self, document: dict[str, Any]) -> None:
        # ASCII, because an answer may hold half a surrogate pair, which no encoding can write.
        click.echo(json.dumps(document, indent=2, allow_nan=False))

    def note(self, text: str) -> None:
        """A line for the person, beside the output."""
        if not self.json or sys.stderr.isatty():
            click.echo(text, err=True)

    def submitted(self, answer: dict[str, Any], wait: bool) -> int | None:
        """Shows the task that a request was answered with, or waits for it."""
        if not wait:
            self.show(answer, submitted)
            return None
        task_id = answer.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise not_this_api(self.api.url, "it accepted the task but gave no task_id")
        self.note(f"Task {plain(task_id)}")
        return self.wait(task_id)

    def wait(self, task_id: str) -> int:
        """Waits for the task, shows how it ended, and returns the exit code that says so."""
        quiet = self.json and not sys.stderr.isatty()
        console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        try:
            task = wait_for_task(self.api, task_id, console)
        except KeyboardInterrupt:
            again = f"data-collector task {task_id} --wait"
            click.echo(f"\nThe task keeps running. Come back to it with:\n  {again}", err=True)
            if self.json:
                detail = f"The task keeps running; come back to it with `{again}`."
                self.print_json({"task_id": task_id, "reason": "INTERRUPTED", "detail": detail})
            return INTERRUPTED
        self.show(task, summary)
        if task["status"] != "completed":
            return ENDED_BADLY
        return UNITS_FAILED if counted(task)[2] else ALL_DONE

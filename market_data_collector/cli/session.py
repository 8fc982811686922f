"""One run of the client: where it prints, in which form, and the API it talks to."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import click
import httpx
from rich.console import Console

from market_data_collector.cli.render import counted, follow
from market_data_collector.cli.short_ids import key_id_of, schedule_id_of, task_id_of
from market_data_collector.cli.tables import submitted, summary
from market_data_collector.cli.values import plain
from market_data_collector.client import Client
from market_data_collector.jobs import Job
from market_data_collector.sockets import Opener, open_socket

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
    no_color: bool = False
    opener: Opener = open_socket
    _client: Client | None = field(default=None, init=False)
    _skipped: float = field(default=0.0, init=False)

    def now(self) -> float:
        """Seconds; a pause counts in full, even one that a test skips."""
        return time.monotonic() + self._skipped

    def pause(self, seconds: float) -> None:
        due = self.now() + seconds
        self.sleep(seconds)
        self._skipped += max(0.0, due - self.now())

    @property
    def client(self) -> Client:
        """Found and opened at its first use; raises Unusable, which is told as wrong usage."""
        if self._client is None:
            self._client = Client(
                self.api_url,
                transport=self.transport,
                sleep=self.pause,
                opener=self.opener,
                auth=self._signature(),
                key=self.key,
            )
        return self._client

    def _signature(self) -> httpx.Auth | None:
        if not self.sign:
            return None
        from market_data_collector.signing import (
            Signed,  # loads botocore, which most commands can do without
        )

        return Signed()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def task_id(self, text: str) -> str:
        """The whole id of a task, of which `text` may be the beginning (cli/short_ids.py)."""
        return task_id_of(self.client, text)

    def schedule_id(self, text: str) -> str:
        """The same of a schedule."""
        return schedule_id_of(self.client, text)

    def key_id(self, text: str) -> str:
        """The same of an API key."""
        return key_id_of(self.client, text)

    def console(self, stream: IO[str], **more: Any) -> Console:
        """On stdout or stderr, in colour where that is a terminal and nobody minds."""
        # None: as $NO_COLOR says.
        return Console(file=stream, highlight=False, no_color=self.no_color or None, **more)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Says on a terminal what is waited for, until it is there."""
        console = self.console(sys.stderr)
        if self.json or not sys.stderr.isatty() or console.is_dumb_terminal:
            yield
            return
        with console.status(what):
            yield

    def show(self, answer: Mapping[str, Any], render: Callable[..., None], *args: Any) -> None:
        """`answer` as one JSON document, or `render(console, …)`: by default of the answer."""
        if self.json:
            self.print_json(answer)
        else:
            wide = None if sys.stdout.isatty() else UNLIMITED
            render(self.console(sys.stdout, width=wide), *(args or (answer,)))

    def print_json(self, document: Mapping[str, Any]) -> None:
        # ASCII, because an answer may hold half a surrogate pair, which no encoding can write.
        click.echo(json.dumps(document, indent=2, allow_nan=False))

    def note(self, text: str) -> None:
        """A line for the person, beside the output."""
        if not self.json or sys.stderr.isatty():
            click.echo(text, err=True)

    def submitted(self, job: Job, wait: bool) -> int | None:
        """Shows a task that was submitted, or waits for it."""
        if not wait:
            self.show(job.answer, submitted)
            return None
        self.note(f"Task {plain(job.task_id)}")
        return self.wait(job.task_id)

    def wait(self, task_id: str) -> int:
        """Waits for the task, shows how it ended, and returns the exit code that says so."""
        quiet = self.json and not sys.stderr.isatty()
        console = self.console(sys.stderr, quiet=quiet)
        try:
            task = follow(self.client.job(task_id).progress(), console)
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

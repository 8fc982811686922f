"""Waiting for a task: a progress bar on a terminal, plain lines anywhere else."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from market_data_collector.cli.values import amount, count, number, plain, record, span
from market_data_collector.jobs import ENDED

# A bar that spans a very wide terminal is harder to read, not easier.
WIDEST = 100
# Seconds of polls that the rate is measured over.
RATE_WINDOW = 30.0
VERBS = {"data_collection": "Collecting", "symbol_refresh": "Refreshing symbols"}
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow"}


def follow(
    views: Iterable[Mapping[str, Any]],
    console: Console,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[str, Any]:
    """Shows each view of a task on `console`, and returns the last. `clock` gives seconds."""
    # Not `console.is_terminal`: that can be forced on from the environment, into a log file.
    if not console.file.isatty() or console.is_dumb_terminal or console.quiet:
        return _in_lines(views, console)
    progress = TaskProgress(clock)
    task: Mapping[str, Any] = {}
    with Live(progress, console=console, refresh_per_second=8) as live:
        for task in views:
            progress.update(task)
            live.refresh()
    return task


def _in_lines(views: Iterable[Mapping[str, Any]], console: Console) -> Mapping[str, Any]:
    task: Mapping[str, Any] = {}
    shown: object = None
    for task in views:
        # Its first word says what the task does: collected, retrying, waiting.
        doing = plain(task.get("message")).partition(" ")[0]
        if shown != (shown := (task.get("status"), task.get("progress"), doing)):
            console.print(progress_line(task), soft_wrap=True, markup=False, highlight=False)
    return task


def counted(task: Mapping[str, Any]) -> tuple[int, int, int]:
    """Units that are done (succeeded or failed), in total (0: not known) and failed."""
    units = record(task.get("units"))
    listed = task.get("failures")
    failed = (
        count(units, "failed")
        or count(task.get("result"), "failed")
        or (len(listed) if isinstance(listed, list) else 0)
    )
    return (count(units, "succeeded") or 0) + failed, count(units, "total") or 0, failed


def percent(task: Mapping[str, Any]) -> int:
    """The task's progress, 0 to 100; from its units where it does not say."""
    progress = number(task.get("progress"))
    if progress is None:
        done, total, _ = counted(task)
        progress = done * 100 // total if total else 0
    return int(min(max(progress, 0), 100))


def progress_line(task: Mapping[str, Any]) -> str:
    done, total, failed = counted(task)
    parts = [f"{percent(task):3}%", plain(task.get("status"))]
    parts += [f"{amount(done)}/{amount(total)} units"] if total else []
    parts += [f"{amount(failed)} failed"] if failed else []
    parts += [f"{amount(task['candles'])} candles"] if count(task, "candles") else []
    parts += oddities(task)
    parts += [plain(task["message"])] if task.get("message") else []
    return "  ".join(parts)


def oddities(task: Mapping[str, Any]) -> list[str]:
    """How many candles were revised and rejected, where any were."""
    named = {"revised": count(task, "revised_candles"), "rejected": count(task, "rejected_candles")}
    return [f"{amount(number)} {what}" for what, number in named.items() if number]


class TaskProgress:
    """Three lines: the bar; candles, rate and time left; the task's message."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._task: Mapping[str, Any] = {}
        self._seen_at = clock()
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, task: Mapping[str, Any]) -> None:
        # Another attempt counts from what is left, so its rate must not mix with the last one's.
        if task.get("attempt") != self._task.get("attempt"):
            self._samples.clear()
        self._task, self._seen_at = task, self._clock()
        self._samples.append((self._seen_at, counted(task)[0]))
        while len(self._samples) > 2 and self._samples[1][0] <= self._seen_at - RATE_WINDOW:
            self._samples.popleft()

    def rate(self) -> float | None:
        """Units per second over the last polls; None before there are two."""
        if len(self._samples) < 2:
            return None
        (start, before), (end, now) = self._samples[0], self._samples[-1]
        return max(now - before, 0) / (end - start) if end > start else None

    def seconds_left(self) -> float | None:
        """The server's estimate, counting down between polls; else from the rate seen here."""
        said = number(self._task.get("eta_seconds"))
        if said is None:
            done, total, _ = counted(self._task)
            rate = self.rate()
            said = (total - done) / rate if rate and total else None
        return None if said is None else max(said - (self._clock() - self._seen_at), 0.0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        yield self._bar(width)
        for line in (self._figures(), self._message()):
            if line is not None:
                line.truncate(width, overflow="ellipsis")
                yield line

    def _bar(self, width: int) -> Table:
        done, total, failed = counted(self._task)
        status = self._task.get("status")
        if status in ENDED:
            label, colour = str(status).capitalize(), COLOURS[str(status)]
            colour = "yellow" if failed and status == "completed" else colour
        else:
            kind = str(self._task.get("task_type"))
            label, colour = VERBS.get(kind, "Working"), "cyan"
            label = "Waiting" if status == "pending" else label
        bar = ProgressBar(
            total=total or 100,
            completed=done if total else percent(self._task),
            pulse=status not in ENDED and not total and not percent(self._task),
            style="bright_black",
            complete_style=colour,
            finished_style=colour,
        )
        line = Table.grid(padding=(0, 2, 0, 0), expand=True)
        line.width = width
        line.add_column(no_wrap=True)
        line.add_column(ratio=1, no_wrap=True)
        line.add_column(no_wrap=True, justify="right")
        line.add_column(no_wrap=True, justify="right")
        units = f"{amount(done)}/{amount(total)} units" if total else ""
        line.add_row(Text(label, style=colour), bar, f"{percent(self._task):3}%", units)
        return line

    def _figures(self) -> Text | None:
        return Text(" · ".join(self._figure_parts())) if self._task else None

    def _figure_parts(self) -> Iterator[str]:
        total, failed = counted(self._task)[1:]
        candles = count(self._task, "candles")
        if candles is not None:
            yield f"{amount(candles)} candles"
        yield from oddities(self._task)
        if total and (rate := self.rate()) is not None:
            yield f"{rate:,.1f} units/s"
        if self._task.get("status") not in ENDED:
            left = self.seconds_left()
            yield f"ETA {NO_ETA if left is None else span(left)}"
        if failed:
            yield f"{amount(failed)} failed"

    def _message(self) -> Text | None:
        # Once it has ended the summary says it, so the bar that stays behind does not.
        if self._task.get("status") in ENDED or not self._task.get("message"):
            return None
        return Text(plain(self._task["message"]), style="dim")


NO_ETA = "-:--"

"""What each command prints for a person: aligned columns, nothing wrapped.

On a terminal long texts end in "…"; in a pipe every value is whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_data_collector.cli.render import COLOURS, counted, oddities, percent
from market_data_collector.cli.values import (
    NOTHING,
    amount,
    count,
    number,
    plain,
    price,
    record,
    records,
    seconds_between,
    span,
    texts,
    when,
)

MOST_FAILURES = 10
MOST_SYMBOLS = 8
GAP = 2
# From this width on there is room for the task's type, its full date and what it collects.
ROOMY, WIDEST_REQUEST = 110, 32
SHORT_ID = 8
STATES = ("pending", "running", "completed", "failed", "cancelled")


def say(console: Console, text: str = "", style: str = "") -> None:
    """One line as it is: no markup, and no line break inside a command to be copied."""
    console.print(Text(text, style=style), soft_wrap=True)


def show_columns(
    console: Console, headers: Sequence[str], rows: Sequence[Sequence[Text]], right: str = ""
) -> None:
    """Aligned columns, those named in `right` (A|B) to the right; only the last is cut short."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right.split("|") else "left"
        table.add_column(header, no_wrap=True, justify=justify)
    # rich would shorten every column in proportion, ids and symbols too.
    widest = [max(len(name), *(row[n].cell_len for row in rows)) for n, name in enumerate(headers)]
    room = console.width - sum(width + GAP for width in widest[:-1])
    for row in rows:
        row[-1].truncate(max(room, len(headers[-1])), overflow="ellipsis")
        table.add_row(*row)
    console.print(table)


def pairs(console: Console, rows: dict[str, str]) -> None:
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        line = Text(f"{name:<{width}}", style="bold") + Text(value, style="not bold")
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def submitted(console: Console, answer: Mapping[str, Any]) -> None:
    task_id = plain(answer.get("task_id"))
    said = f": {plain(answer['message'])}" if answer.get("message") else ""
    say(console, f"Task {task_id} {plain(answer.get('status') or 'submitted')}{said}")
    say(console, f"Follow it: data-collector task {task_id} --wait", "dim")


def summary(console: Console, task: Mapping[str, Any]) -> None:
    """How a task ended, and what can be done about what failed."""
    done, total, failed = counted(task)
    status = plain(task.get("status"))
    candles = count(task, "candles")
    seconds = seconds_between(task.get("started_at"), task.get("completed_at"))
    facts = [f"{amount(done - failed)} of {amount(total)} units"] if total else []
    facts += [f"{amount(candles)} candles"] if candles is not None else []
    facts += oddities(task)
    facts += [f"{amount(failed)} failed"] if failed else []
    facts += [span(seconds)] if seconds is not None else []
    colour = "yellow" if failed and status == "completed" else COLOURS.get(status, "")
    say(console, ": ".join(filter(None, (status.capitalize(), ", ".join(facts)))), colour)
    if task.get("error"):
        say(console, f"Error: {error_text(task['error'])}")
    elif task.get("message") and (status != "completed" or not total):
        say(console, plain(task["message"]))
    failures(console, task)
    rejections(console, task)
    if failed or status in ("failed", "cancelled"):
        say(console, f"Run the rest: data-collector retry {plain(task.get('task_id'))} -w")


def task_details(console: Console, task: Mapping[str, Any]) -> None:
    done, total, failed = counted(task)
    progress = f"{percent(task)}%"
    progress += f", {amount(done)}/{amount(total)} units" if total else ""
    progress += f", {amount(failed)} failed" if failed else ""
    attempt = count(task, "attempt") or 1
    rows = {
        "Task": plain(task.get("task_id")),
        "Type": plain(task.get("task_type")),
        "Status": plain(task.get("status")) + (f" (attempt {attempt})" if attempt > 1 else ""),
        **_asked_for(task),
        "Progress": progress,
        "Candles": ", ".join([amount(task.get("candles")), *oddities(task)]),
        "Message": plain(task.get("message")),
        "Created": when(task.get("created_at")),
        "Started": when(task.get("started_at")),
        "Completed": when(task.get("completed_at")),
    }
    if task.get("next_attempt_at"):
        rows["Next attempt"] = when(task["next_attempt_at"])
    if (left := number(task.get("eta_seconds"))) is not None:
        rows["Time left"] = span(left)
    if task.get("error"):
        rows["Error"] = error_text(task["error"])
    pairs(console, rows)
    failures(console, task)
    rejections(console, task)
    passed_over(console, task)


def _asked_for(task: Mapping[str, Any]) -> dict[str, str]:
    """Rows of what the task collects; none where it does not say that."""
    request = record(task.get("request"))
    if not request:
        return {}
    start, end = request.get("start"), request.get("end")
    since = when(start) if start else "the newest stored candle"
    until = when(end) if end else "the last closed candle"
    return {"Collects": collects(task), "Range": f"from {since} to {until}"}


def collects(task: Mapping[str, Any]) -> str:
    """Symbols or selectors, how many symbols these are, and timeframes."""
    request = record(task.get("request"))
    if not request:
        return NOTHING
    frames = " ".join(texts(request.get("timeframes"))) or NOTHING
    return f"{symbols_of(request, count(task, 'symbols_count'))} in {frames}"


def symbols_of(request: Mapping[str, Any], total: int | None = None) -> str:
    """The first symbols or selectors of a request; `total`: how many symbols these are in all."""
    names = texts(request.get("symbols"))
    said = " ".join(names[:MOST_SYMBOLS]) or "all symbols"
    if names and not any(mark in name for name in names for mark in "*!="):
        more = max(total or 0, len(names)) - MOST_SYMBOLS
        return f"{said} and {more:,} more" if more > 0 else said
    said += " …" if len(names) > MOST_SYMBOLS else ""
    many = f" ({amount(total)} symbol{'' if total == 1 else 's'})"
    return said if total is None else said + many


def failures(console: Console, task: Mapping[str, Any]) -> None:
    failed = records(task.get("failures"))
    if not failed:
        return
    names = ("symbol", "timeframe", "reason", "detail")
    rows = [cells(entry, *names) for entry in failed[:MOST_FAILURES]]
    console.print()
    show_columns(console, ["FAILED", "TIMEFRAME", "REASON", "DETAIL"], rows)
    if len(failed) > MOST_FAILURES:
        say(console, f"… and {len(failed) - MOST_FAILURES:,} more (--json shows all)")


def rejections(console: Console, task: Mapping[str, Any]) -> None:
    """Candles that the exchange sent and that were not valid."""
    rejected = records(task.get("rejections"))
    if not rejected:
        return
    rows = [
        [*cells(entry, "symbol", "timeframe"), Text(when(entry.get("open_time")))]
        for entry in rejected[:MOST_FAILURES]
    ]
    console.print()
    show_columns(console, ["REJECTED", "TIMEFRAME", "OPEN TIME"], rows)
    total = max(count(task, "rejected_candles") or 0, len(rejected))
    if total > MOST_FAILURES:
        say(console, f"… and {total - MOST_FAILURES:,} more (--json shows up to 100)")


def passed_over(console: Console, task: Mapping[str, Any]) -> None:
    """Files of the exchange's archive that were not used."""
    files = records(task.get("passed_over"))
    if files:
        console.print()
        show_columns(
            console, ["NOT USED", "REASON"], [cells(entry, "file", "reason") for entry in files]
        )


def short(console: Console, identifier: Any) -> Text:
    """An id; on a narrow terminal its beginning, which every command takes in its place."""
    text = plain(identifier)
    return Text(text if console.width >= ROOMY else text[:SHORT_ID])


def tasks(console: Console, answer: Mapping[str, Any]) -> None:
    rows = []
    roomy = console.width >= ROOMY
    for task in records(answer.get("tasks")):
        asked = Text(collects(task))
        if console.is_terminal:
            asked.truncate(WIDEST_REQUEST, overflow="ellipsis")
        status = plain(task.get("status"))
        created = when(task.get("created_at"), "%Y-%m-%d %H:%M:%S" if roomy else "%H:%M:%S")
        rows.append(
            [
                short(console, task.get("task_id")),
                *(cells(task, "task_type") if roomy else []),
                Text(status, style=COLOURS.get(status, "")),
                Text(f"{percent(task)}%"),
                Text(created),
                *([asked] if roomy else []),
                *cells(task, "message"),
            ]
        )
    roomier = (["TYPE"], ["COLLECTS"]) if roomy else ([], [])
    names = ["TASK", *roomier[0], "STATUS", "DONE", "CREATED", *roomier[1], "MESSAGE"]
    if rows:
        show_columns(console, names, rows, right="DONE")
    else:
        say(console, "No tasks.")


def history(console: Console, answer: Mapping[str, Any]) -> None:
    rows = []
    roomy = console.width >= ROOMY
    for task in records(answer.get("tasks")):
        status, units = plain(task.get("status")), record(task.get("units"))
        rest = [
            *cells(task, "owner"),
            Text(amount(units.get("total"))),
            Text(amount(units.get("failed"))),
            Text(_asked(task)),
        ]
        rows.append(
            [
                short(console, task.get("task_id")),
                Text(status, style=COLOURS.get(status, "")),
                Text(when(task.get("completed_at"), "%Y-%m-%d %H:%M" if roomy else "%m-%d %H:%M")),
                *(rest if roomy else []),
                *cells(task, "message"),
            ]
        )
    more = ["OWNER", "UNITS", "FAILED", "ASKED"] if roomy else []
    if rows:
        names = ["TASK", "STATUS", "ENDED", *more, "MESSAGE"]
        show_columns(console, names, rows, right="UNITS|FAILED")
    else:
        say(console, "No task has ended.")


def _asked(task: Mapping[str, Any]) -> str:
    """What a task was asked to do, in few words: BTCUSDT, ETHUSDT +3 1h,4h."""
    asked = record(task.get("asked"))
    if not asked:
        return plain(task.get("task_type")).replace("_", " ")
    names, total = texts(asked.get("symbol_names")), count(asked, "symbols")
    more = f" +{total - len(names)}" if total is not None and total > len(names) else ""
    symbols = ", ".join(names) + more if total else "all symbols"
    return f"{symbols} {','.join(texts(asked.get('timeframes')))}".strip()


def stats(console: Console, answer: Mapping[str, Any]) -> None:
    known = record(answer.get("data_collector_status"))
    pairs(
        console,
        {
            **task_counts(answer),
            "Active": amount(answer.get("active_tasks_count")),
            "Symbols": amount(known.get("symbols_count")),
            "Timeframes": ", ".join(texts(known.get("timeframes"))) or plain(None),
        },
    )


def _limits(limits: Mapping[str, Any]) -> dict[str, str]:
    """A row for each limit that there is: how much of it is used, where that is counted."""
    rows = {}
    for name, entry in limits.items():
        limit, used = (record(entry).get(key) for key in ("limit", "used"))
        if limit is not None:
            shown = amount(limit) if used is None else f"{amount(used)} of {amount(limit)} used"
            rows[f"Limit: {plain(name).replace('_', ' ')}"] = shown
    return rows


def status(console: Console, answer: Mapping[str, Any]) -> None:
    budget, breaker = record(answer.get("rate_budget")), record(answer.get("breaker"))
    closed = "closed, the exchange is being asked"
    opened = f"open until {when(breaker.get('until'))}: {plain(breaker.get('reason'))}"
    rows = {
        "Collector": plain(answer.get("status")),
        "Rate budget": f"{amount(budget.get('left'))} of {amount(budget.get('limit'))} left, "
        f"resets {when(budget.get('resets_at'), '%H:%M:%S UTC')}",
        "Breaker": opened if breaker.get("open") else closed if breaker else plain(None),
        **({"Paused": _pause(answer)} if answer.get("pause") else {}),
        **task_counts(answer),
        **_limits(record(answer.get("limits"))),
    }
    pairs(console, rows)
    figures = ("visible", "in_flight", "delayed")
    queues = [
        [Text(plain(name)), *(Text(amount(record(depth).get(key))) for key in figures)]
        for name, depth in record(answer.get("queues")).items()
    ]
    if queues:
        console.print()
        names = ["QUEUE", "VISIBLE", "IN FLIGHT", "DELAYED"]
        show_columns(console, names, queues, right="VISIBLE|IN FLIGHT|DELAYED")


def paused(console: Console, answer: Mapping[str, Any]) -> None:
    """What came of an order to pause or to resume."""
    said = plain(answer.get("message") or ("Paused" if answer.get("paused") else "Resumed"))
    if answer.get("pause"):
        waits = when(record(answer["pause"]).get("tasks_wait_until"))
        said += f" {_pause(answer)}. The time of tasks stands still, up to {waits}"
    say(console, said)


def _pause(answer: Mapping[str, Any]) -> str:
    pause = record(answer.get("pause"))
    until = f" until {when(pause['until'])}" if pause.get("until") else ""
    why = f": {plain(pause['reason'])}" if pause.get("reason") else ""
    return f"by {plain(pause.get('by'))} since {when(pause.get('since'))}{until}{why}"


def task_counts(answer: Mapping[str, Any]) -> dict[str, str]:
    counts = record(answer.get("task_counts"))
    names = [*STATES, *(name for name in counts if name not in STATES)]
    return {f"Tasks {plain(name)}": amount(counts[name]) for name in names if name in counts}


def prices(console: Console, answer: Mapping[str, Any]) -> None:
    rows = []
    for symbol, entry in record(answer.get("prices")).items():
        at = record(entry).get("time")
        age = number(record(entry).get("age_seconds"))
        old = " (stale)" if record(entry).get("stale") is True else ""
        value = price(record(entry).get("price"))
        shown = (symbol, value, None if age is None else span(age) + old, when(at))
        rows.append([Text(plain(cell)) for cell in shown])
    missing = texts(answer.get("unreachable"))
    if rows:
        show_columns(console, ["SYMBOL", "PRICE", "AGE", "TIME"], rows, right="PRICE|AGE")
    if missing:
        say(console, f"No price for {', '.join(missing)}")
    if not rows and not missing:
        say(console, "No prices yet.")


def symbols(console: Console, names: list[str]) -> None:
    """Side by side on a terminal; one a line in a pipe, ready for grep and xargs."""
    if not console.is_terminal:
        for name in names:
            say(console, name)
        return
    if names:
        console.print(Columns([Text(plain(name)) for name in names], padding=(0, 2), equal=True))
    say(console, f"{len(names):,} symbol{'' if len(names) == 1 else 's'}", "dim")


def cells(entry: Mapping[str, Any], *names: str) -> list[Text]:
    # Text, not str: a message may hold [brackets], which a str would have read as markup.
    return [Text(plain(entry.get(name))) for name in names]


def error_text(error: Any) -> str:
    if isinstance(error, dict):
        said = error.get("detail") or error.get("message") or error.get("reason")
        return plain(said or error)
    return plain(error)

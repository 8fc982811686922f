"""The commands: each makes one call, shows its answer and returns the exit code (None: 0)."""

import fnmatch
import os
from collections.abc import Mapping
from typing import Any

import click

from market_data_collector.calls import next_token
from market_data_collector.cli import tables
from market_data_collector.cli.audit import audit
from market_data_collector.cli.candles import candle_files, candles
from market_data_collector.cli.check import check
from market_data_collector.cli.coverage import coverage, fill, gaps, verify
from market_data_collector.cli.dead_letters import dead_letters
from market_data_collector.cli.everything import confirm
from market_data_collector.cli.keys import keys
from market_data_collector.cli.opening import open_console
from market_data_collector.cli.options import (
    Commands,
    Duration,
    HeaderText,
    Time,
    WebSocketUrl,
    everywhere,
    listed,
    selected,
    wait,
)
from market_data_collector.cli.quotes import quote
from market_data_collector.cli.schedules import schedules
from market_data_collector.cli.session import Session
from market_data_collector.cli.values import plain, record, texts
from market_data_collector.cli.watch import watch as watch_topics
from market_data_collector.jobs import ENDED
from market_data_collector.version import VERSION

SECRET_VARIABLE = "DATA_COLLECTOR_WEBHOOK_SECRET"
#: Pages of the history that are read for one list.
FEW_PAGES = 14
EPILOG = """\b
Exit codes:
  0    success (with --wait: completed, no unit failed)
  1    --wait, watch: the task ended failed or cancelled;
       audit verify: a chain is broken; check: something does not work
  2    wrong usage, a start that was not confirmed,
       or the API rejected the request (4xx)
  3    --wait, watch: completed, but units failed
  4    the API cannot be reached, or answers 5xx
  130  Ctrl-C; a task that was waited for keeps running
  141  the reader of the output went away (a closed pipe)
"""


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@everywhere
@click.version_option(VERSION, prog_name="data-collector")
def cli() -> None:
    """Collect market candles: submit tasks, follow them, read prices."""


@cli.command()
@click.argument("symbols", nargs=-1)
@click.option("--symbol", "-s", "more_symbols", multiple=True, metavar="A,B", help="Repeatable.")
@click.option("--timeframe", "-t", "timeframes", multiple=True, metavar="1m,1h", help="Repeatable.")
@click.option("--start", type=Time(), help="ISO date or time (UTC), or epoch ms.")
@click.option("--end", type=Time(), help="The same; exclusive, and a date means its 00:00.")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    help="low: only while nothing else is collected.",
)
@click.option(
    "--tolerated-failure-percentage",
    "tolerated",
    type=click.FloatRange(0, 100),
    metavar="0-100",
    help="The task fails when more than this share of its units does.",
)
@click.option(
    "--idempotency-key",
    type=HeaderText(),
    help="Sending the same key again returns the first task instead of starting another.",
)
@click.option(
    "--webhook",
    metavar="URL",
    help=f"Tell this https address when the task ends, signed by ${SECRET_VARIABLE}.",
)
@click.option(
    "--webhook-event",
    "events",
    multiple=True,
    metavar="A,B",
    help="What it is told instead of the end, like task.started. Repeatable.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask where no symbols are named.")
@click.option(
    "--retries",
    type=click.IntRange(0, 5),
    help="So many attempts open by themselves where units failed for reasons that may pass.",
)
@click.option(
    "--retry-backoff",
    type=Duration(),
    help="How long after its end the first one opens, like 1m; each other one twice as late.",
)
@click.option("--force", is_flag=True, help="Start it although the same collection runs.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and start nothing.")
@wait
@everywhere
@click.pass_obj
def start(
    session: Session,
    symbols: tuple[str, ...],
    more_symbols: tuple[str, ...],
    timeframes: tuple[str, ...],
    start: str | None,
    end: str | None,
    priority: str | None,
    tolerated: float | None,
    idempotency_key: str | None,
    webhook: str | None,
    events: tuple[str, ...],
    yes: bool,
    retries: int | None,
    retry_backoff: int | None,
    force: bool,
    dry_run: bool,
    wait: bool,
) -> int | None:
    """Collect candles of SYMBOLS: names, or selectors such as '*USDT', quote=USDT, base=BTC,
    status=BREAK, top=20, and '!XRPUSDT' for what is not wanted. Without any: of all that trade.
    """
    if tolerated is not None and tolerated.is_integer():
        tolerated = int(tolerated)
    body = {
        "symbols": selected([*symbols, *more_symbols]),
        "timeframes": listed(timeframes, "timeframes"),
        "start": start,
        "end": end,
        "priority": priority,
        "tolerated_failure_percentage": tolerated,
        "webhook": _webhook(webhook, listed(events, "webhook events")),
        "retries": retries,
        "retry_backoff_seconds": retry_backoff,
        "force": force or None,
    }
    given: Any = {name: value for name, value in body.items() if value not in (None, [])}
    if dry_run:
        if wait:
            raise click.UsageError("--dry-run starts nothing that --wait could wait for.")
        session.show(session.client.quote(**given), quote)
        return None
    if "symbols" not in given and not yes:
        confirm(session, given)
    with session.busy("Submitting"):
        job = session.client.start(**given, idempotency_key=idempotency_key)
    return session.submitted(job, wait)


def _webhook(url: str | None, events: list[str]) -> dict[str, Any] | None:
    if url is None:
        if events:
            raise click.UsageError("--webhook-event needs --webhook.")
        return None
    secret = os.environ.get(SECRET_VARIABLE, "")
    if not secret:
        # Not an option of its own: every user of the machine can read a command's arguments.
        raise click.UsageError(
            f"--webhook needs a secret of 24 or more characters in ${SECRET_VARIABLE}, "
            "which the receiver knows, too."
        )
    return {"url": url, "secret": secret, **({"events": events} if events else {})}


@cli.command("refresh-symbols")
@click.option(
    "--accept-refused", is_flag=True, help="The list that was refused last is right: take it over."
)
@wait
@everywhere
@click.pass_obj
def refresh_symbols(session: Session, accept_refused: bool, wait: bool) -> int | None:
    """Read the exchange's list of symbols again."""
    return session.submitted(session.client.refresh_symbols(accept_refused), wait)


@cli.command()
@click.argument("task_id", metavar="ID")
@wait
@everywhere
@click.pass_obj
def retry(session: Session, task_id: str, wait: bool) -> int | None:
    """Run a task's failed and unfinished units again. ID may be shortened."""
    task_id = session.task_id(task_id)
    return session.submitted(session.client.retry(task_id), wait)


@cli.command()
@click.argument("task_id", metavar="ID")
@everywhere
@click.pass_obj
def cancel(session: Session, task_id: str) -> None:
    """Cancel a task; what it has collected stays. ID may be shortened."""
    task_id = session.task_id(task_id)
    answer = session.client.cancel(task_id)
    said = answer.get("message") or f"Task {task_id} {answer.get('status') or 'cancelled'}"
    session.show(answer, tables.say, plain(said))


@cli.command()
@click.argument("task_id", metavar="ID")
@wait
@everywhere
@click.pass_obj
def task(session: Session, task_id: str, wait: bool) -> int | None:
    """Show one task. ID may be shortened."""
    task_id = session.task_id(task_id)
    if wait:
        return session.wait(task_id)
    session.show(session.client.task(task_id), tables.task_details)
    return None


@cli.command()
@click.option("--type", "task_type", type=click.Choice(["data_collection", "symbol_refresh"]))
@click.option("--status", type=click.Choice(["pending", "running", *sorted(ENDED)]))
@click.option("--page-size", type=click.IntRange(min=1))
@click.option("--page-token", help="From the page before.")
@click.option("--all", "every_page", is_flag=True, help="Follow the pages to the last.")
@click.option("--active", is_flag=True, help="Only tasks that have not ended; no other filter.")
@everywhere
@click.pass_obj
def tasks(session: Session, /, every_page: bool, active: bool, **filters: Any) -> None:
    """List tasks, newest first."""
    given = {name: value for name, value in filters.items() if value is not None}
    if active and given:
        raise click.UsageError("--active takes no other filter.")
    with session.busy("Reading tasks"):
        answer: Mapping[str, Any]
        if active:
            found = [*session.client.active()]
            answer = {"tasks": found, "count": len(found), "next_page_token": None}
        elif every_page:
            answer = {"tasks": [*session.client.tasks(**given)], "next_page_token": None}
        else:
            answer = session.client.tasks_page(**given)
    session.show(answer, tables.tasks)
    if token := next_token(answer):
        session.note(f"There are more: add --page-token {plain(token)}, or --all")


@cli.command()
@click.option("--type", "task_type", type=click.Choice(["data_collection", "symbol_refresh"]))
@click.option("--status", type=click.Choice(sorted(ENDED)))
@click.option("--since", type=Time(), help="Ended then or later: ISO date or time (UTC).")
@click.option("--until", type=Time(), help="Ended before then.")
@click.option("--page-size", type=click.IntRange(min=1))
@click.option("--page-token", help="From the page before.")
@click.option("--all", "every_page", is_flag=True, help="Follow the pages to the last.")
@everywhere
@click.pass_obj
def history(session: Session, /, every_page: bool, **filters: Any) -> None:
    """List how tasks ended, newest first: expired ones, too."""
    given = {name: value for name, value in filters.items() if value is not None}
    answer: Mapping[str, Any]
    with session.busy("Reading the history"):
        if every_page:
            answer = {"tasks": [*session.client.history(**given)], "next_page_token": None}
        else:
            answer = _some_history(session, given)
    session.show(answer, tables.history)
    if token := next_token(answer):
        session.note(f"There may be more: add --page-token {plain(token)}, or --all")


def _some_history(session: Session, given: dict[str, Any]) -> Mapping[str, Any]:
    """The first page that holds something, of a few: pages may be empty where others' tasks, or
    none, ended for a long time."""
    for _ in range(FEW_PAGES):
        answer = session.client.history_page(**given)
        token = next_token(answer)
        if answer.get("tasks") or not token or token == given.get("page_token"):
            break
        given = {**given, "page_token": token}
    return answer


@cli.command()
@everywhere
@click.pass_obj
def stats(session: Session) -> None:
    """Count tasks, symbols and timeframes."""
    session.show(session.client.stats(), tables.stats)


@cli.command()
@everywhere
@click.pass_obj
def status(session: Session) -> None:
    """Show what the collector is doing: queues, rate budget, breaker, pause."""
    session.show(session.client.status(), tables.status)


@cli.command()
@click.option("--for", "seconds", type=Duration(), metavar="2h", help="End by itself after that.")
@click.option("--reason", default="", help="For people: it is shown with the pause.")
@everywhere
@click.pass_obj
def pause(session: Session, seconds: int | None, reason: str) -> None:
    """Stop all requests to the exchange; tasks wait until `resume`."""
    session.show(session.client.pause(seconds, reason), tables.paused)


@cli.command()
@everywhere
@click.pass_obj
def resume(session: Session) -> None:
    """Let requests to the exchange go on."""
    session.show(session.client.resume(), tables.paused)


@cli.command()
@click.argument("symbols", nargs=-1)
@everywhere
@click.pass_obj
def prices(session: Session, symbols: tuple[str, ...]) -> None:
    """Show the latest prices of SYMBOLS (none: all known ones)."""
    names = listed([name.upper() for name in symbols], "symbols")
    session.show(session.client.latest_prices(names or None), tables.prices)


@cli.command()
@click.argument("pattern", default="")
@everywhere
@click.pass_obj
def symbols(session: Session, pattern: str) -> None:
    """List the symbols that can be collected: all, those holding PATTERN, or matching 'BTC*'."""
    known = record(session.client.stats().get("data_collector_status"))
    glob = pattern.upper() if set(pattern) & set("*?[") else f"*{pattern.upper()}*"
    names = texts(known.get("available_symbols"))
    found = [name for name in names if fnmatch.fnmatchcase(name.upper(), glob)]
    session.show({"symbols": found, "count": len(found)}, tables.symbols, found)


@cli.command()
@click.argument("topics", nargs=-1, required=True, metavar="ID|TOPIC...")
@click.option(
    "--ws-url",
    envvar="DATA_COLLECTOR_WS_URL",
    type=WebSocketUrl(),
    metavar="URL",
    help="Where the WebSocket is, as $DATA_COLLECTOR_WS_URL says it, too. Else the API is asked.",
)
@everywhere
@click.pass_obj
def watch(session: Session, topics: tuple[str, ...], ws_url: str | None) -> int:
    """Follow tasks, prices and candles as they change.

    A task's ID, or its beginning; or a topic: tasks, prices:BTCUSDT, candles:BTCUSDT:1m. Ends with
    the last task, or not at all where something else is followed, too; the exit code is that of
    --wait. With --json it prints one document a line.
    """
    return watch_topics(session, list(topics), ws_url)


cli.add_command(audit)
cli.add_command(open_console)
cli.add_command(schedules)
cli.add_command(candles)
cli.add_command(candle_files)
cli.add_command(coverage)
cli.add_command(gaps)
cli.add_command(fill)
cli.add_command(verify)
cli.add_command(check)
cli.add_command(keys)
cli.add_command(dead_letters)

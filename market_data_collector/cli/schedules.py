"""`data-collector schedules`: collecting by itself, made, looked at and changed."""

from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.cli import tables
from market_data_collector.cli.options import (
    Commands,
    Duration,
    HeaderText,
    everywhere,
    listed,
    selected,
    wait,
)
from market_data_collector.cli.session import Session
from market_data_collector.cli.values import (
    NOTHING,
    amount,
    count,
    number,
    plain,
    record,
    records,
    span,
    texts,
    when,
)


@click.group(cls=Commands, invoke_without_command=True)
@everywhere
@click.pass_context
def schedules(context: click.Context) -> None:
    """List schedules; or make, show, change, run and delete one."""
    if context.invoked_subcommand is None:
        session: Session = context.obj
        found = [*session.client.schedules()]
        session.show({"schedules": found, "next_page_token": None}, _table)


@schedules.command()
@click.argument("expression")
@click.argument("symbols", nargs=-1)
@click.option("--timeframe", "-t", "timeframes", multiple=True, metavar="1m,1h", help="Repeatable.")
@click.option("--name", help="For people; need not be unique.")
@click.option("--timezone", metavar="Europe/Berlin", help="Of a cron expression; else UTC.")
@click.option("--overlap", type=click.Choice(["skip", "queue"]), help="While the last run runs.")
@click.option("--catch-up", is_flag=True, help="Make up, once, for runs that never came.")
@click.option("--max-lag", type=click.IntRange(min=1), metavar="SECONDS", help="Promised lag.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]))
@click.option(
    "--retries",
    type=click.IntRange(0, 5),
    help="So many attempts of a run open by themselves where units failed for reasons that pass.",
)
@click.option(
    "--retry-backoff",
    type=Duration(),
    help="How long after its end the first one opens, like 1m; each other one twice as late.",
)
@click.option("--disabled", is_flag=True, help="Make it, but do not let it run yet.")
@click.option("--idempotency-key", type=HeaderText(), help="Sending it again makes no second one.")
@everywhere
@click.pass_obj
def create(
    session: Session,
    /,
    expression: str,
    symbols: tuple[str, ...],
    timeframes: tuple[str, ...],
    max_lag: int | None,
    priority: str | None,
    retries: int | None,
    retry_backoff: int | None,
    disabled: bool,
    catch_up: bool,
    idempotency_key: str | None,
    **chosen: str | None,
) -> None:
    """Collect SYMBOLS by 'cron(0 6 * * ? *)' or 'rate(5 minutes)'.

    Symbols or selectors, as start takes them; none: all.
    """
    request = {
        "symbols": selected(symbols),
        "timeframes": listed(timeframes, "timeframes"),
        "priority": priority,
        "retries": retries,
        "retry_backoff_seconds": retry_backoff,
    }
    body: dict[str, Any] = {"expression": expression, "request": _given(request), **_given(chosen)}
    if max_lag is not None:
        body["freshness"] = {"max_lag_seconds": max_lag}
    body |= {"enabled": False} if disabled else {}
    body |= {"catch_up": True} if catch_up else {}
    session.show(session.client.create_schedule(**body, idempotency_key=idempotency_key), _details)


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@everywhere
@click.pass_obj
def show(session: Session, schedule_id: str) -> None:
    """Show one schedule: its runs, and how fresh its candles are. ID may be shortened."""
    session.show(session.client.schedule(session.schedule_id(schedule_id)), _details)


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@everywhere
@click.pass_obj
def enable(session: Session, schedule_id: str) -> None:
    """Let a schedule run (again)."""
    session.show(
        session.client.change_schedule(session.schedule_id(schedule_id), enabled=True), _details
    )


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@everywhere
@click.pass_obj
def disable(session: Session, schedule_id: str) -> None:
    """Pause a schedule."""
    session.show(
        session.client.change_schedule(session.schedule_id(schedule_id), enabled=False), _details
    )


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@wait
@everywhere
@click.pass_obj
def run(session: Session, schedule_id: str, wait: bool) -> int | None:
    """Run a schedule at once, whatever its expression says."""
    return session.submitted(session.client.run_schedule(session.schedule_id(schedule_id)), wait)


@schedules.command()
@click.argument("schedule_id", metavar="ID")
@everywhere
@click.pass_obj
def delete(session: Session, schedule_id: str) -> None:
    """Delete a schedule; its tasks stay."""
    schedule_id = session.schedule_id(schedule_id)
    answer = session.client.delete_schedule(schedule_id)
    session.show(answer, tables.say, f"Schedule {plain(schedule_id)} deleted")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [])}


# --- what is printed ------------------------------------------------------------------------------


def _table(console: Console, answer: Mapping[str, Any]) -> None:
    found = records(answer.get("schedules"))
    if not found:
        tables.say(console, "No schedules. Make one: data-collector schedules create --help")
        return
    rows = [
        [
            tables.short(console, entry.get("schedule_id")),
            _next(entry),
            Text(_counted(entry)),
            Text(_when_it_runs(entry)) + Text(f"  {_name(entry)}", style="dim"),
        ]
        for entry in found
    ]
    tables.show_columns(console, ("ID", "NEXT (UTC)", "RUNS", "SCHEDULE"), rows, right="RUNS")


def _next(schedule: Mapping[str, Any]) -> Text:
    if _state(schedule) != "enabled":
        return Text(_state(schedule), style="dim")
    return Text(when(schedule.get("next_run_at"), "%m-%d %H:%M:%S"))


def _name(schedule: Mapping[str, Any]) -> str:
    return plain(schedule["name"]) if schedule.get("name") else ""


def _details(console: Console, schedule: Mapping[str, Any]) -> None:
    last, fresh = record(schedule.get("last_run")), record(schedule.get("freshness"))
    request, runs = record(schedule.get("request")), record(schedule.get("runs"))
    frames = " ".join(texts(request.get("timeframes"))) or NOTHING
    rows = {
        "Schedule": plain(schedule.get("schedule_id")),
        "Name": plain(schedule.get("name")),
        "State": _state(schedule),
        "Expression": _when_it_runs(schedule),
        "Collects": f"{tables.symbols_of(request)} in {frames}",
        "Overlap": plain(schedule.get("overlap"))
        + (", catches up" if schedule.get("catch_up") is True else ""),
        "Next run": when(schedule.get("next_run_at")),
        "Last run": f"{when(last.get('at'))}, {plain(last.get('status') or 'expired')}"
        if last
        else NOTHING,
        "Last task": plain(last.get("task_id")),
        "Runs": ", ".join(
            f"{amount(runs.get(name))} {name}" for name in ("started", "skipped", "missed")
        ),
    }
    if schedule.get("queued_for"):
        rows["Waiting"] = f"the run of {when(schedule['queued_for'])}"
    if fresh:
        rows["Freshness"] = _freshness(fresh)
    if schedule.get("stopped_because"):
        rows["Stopped"] = plain(schedule["stopped_because"])
    if schedule.get("sync_error"):
        rows["Refused"] = plain(schedule["sync_error"])
    tables.pairs(console, rows)


def _state(schedule: Mapping[str, Any]) -> str:
    if schedule.get("sync_error"):
        return "refused"
    return "enabled" if schedule.get("enabled") is True else "disabled"


def _when_it_runs(schedule: Mapping[str, Any]) -> str:
    zone = schedule.get("timezone")
    expression = plain(schedule.get("expression"))
    return expression if zone in (None, "UTC") else f"{expression} {plain(zone)}"


def _counted(schedule: Mapping[str, Any]) -> str:
    """Started runs; those that were skipped or missed behind a minus."""
    runs = record(schedule.get("runs"))
    lost = (count(runs, "skipped") or 0) + (count(runs, "missed") or 0)
    return amount(runs.get("started")) + (f" (-{lost:,})" if lost else "")


def _freshness(fresh: Mapping[str, Any]) -> str:
    lag, promised = number(fresh.get("lag_seconds")), number(fresh.get("promised_seconds"))
    said = "not measured yet" if lag is None else f"{span(lag)} behind"
    said += f" (promised: at most {span(promised)})" if promised is not None else ""
    breaches = count(fresh, "breaches") or 0
    return said + (f", broken {breaches:,} times" if breaches else "")

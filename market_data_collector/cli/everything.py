"""Before a start that names no symbols: saying what it would collect, and asking."""

import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from market_data_collector.cli.session import Session
from market_data_collector.cli.values import amount, count, moment, plain, record, texts

NAMED = 8
#: Candles of a unit at most, where it is not one larger object.
UNIT_CANDLES = 20_000
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "M": 30 * 86_400}
HOW = "Name symbols (BTCUSDT, '*USDT', quote=USDT top=20), or add --yes to collect all that trade."


def confirm(session: Session, body: dict[str, Any]) -> None:
    """Ask whether the body of a start without symbols is meant.

    Raises click.UsageError where nobody is there to ask, and click.ClickException where the answer
    is no.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(f"No symbols are named. {HOW}")
    click.echo(describe(body, session.client.stats()), err=True)
    click.echo("Start it? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise click.ClickException(f"Nothing was started. {HOW}")


def describe(body: dict[str, Any], stats: Mapping[str, Any]) -> str:
    """What a start without symbols collects: symbols, timeframes, range, and about how many
    units."""
    known = record(stats.get("data_collector_status"))
    default = texts(known.get("default_symbols"))
    trading = count(known, "trading_symbols_count")
    symbols = len(default) or trading or count(known, "symbols_count") or 0
    which = f"all {amount(symbols)} symbols that trade" if trading else "all symbols that trade"
    if default:
        more = " …" if len(default) > NAMED else ""
        which = f"{amount(symbols)} symbols ({' '.join(default[:NAMED])}{more})"
    if any(mark in entry for entry in default for mark in "*!="):
        symbols, which = 0, f"what {' '.join(default)} selects"
    frames = texts(body.get("timeframes")) or texts(known.get("timeframes"))
    start, end = body.get("start"), body.get("end")
    since = f"from {plain(start)}" if start else "from the newest stored candle of each"
    until = f"to {plain(end)}" if end else "to now"
    units = symbols * sum(_units(frame, start, end) for frame in frames)
    said = f"No symbols are named: this collects {which} in {' '.join(frames)}, {since} {until}"
    return f"{said}: about {amount(units)} units." if units else f"{said}."


def _units(timeframe: str, start: Any, end: Any) -> int:
    """About how many units one symbol makes."""
    found = re.fullmatch(r"(\d{1,4})([smhdwM])", timeframe, re.ASCII)
    since = moment(start)
    if found is None or since is None or not int(found[1]):
        return 1
    until = moment(end) or datetime.now(UTC)
    candles = (until - since).total_seconds() / (int(found[1]) * SECONDS[found[2]])
    return max(1, math.ceil(candles / UNIT_CANDLES))

"""A quote, as `start --dry-run` prints it."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from market_data_collector.cli.tables import pairs, say
from market_data_collector.cli.values import NOTHING, amount, number, plain, record, span, texts

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def quote(console: Console, answer: Mapping[str, Any]) -> None:
    """What a request would take: a line for each figure, then what it takes for granted."""
    units = record(answer.get("units"))
    seconds = number(answer.get("seconds"))
    rows = {
        "Symbols": f"{amount(answer.get('symbols'))} in {', '.join(_timeframes(answer))}",
        "Units": f"{amount(units.get('total'))}, {amount(units.get('from_store'))} stored already",
        **{f"From {plain(name)}": _source(each) for name, each in _sources(answer).items()},
        "Candles": f"{amount(answer.get('candles'))}, {_size(answer.get('bytes_stored'))} new",
        "Time": NOTHING if seconds is None else span(seconds),
        "Cost": f"{_dollars(answer.get('dollars'))}, and "
        f"{_dollars(answer.get('storage_dollars_per_month'))} a month to keep it",
    }
    for title, name in (("Unknown", "unknown_symbols"), ("Delisted", "delisted_symbols")):
        if named := texts(answer.get(name)):
            rows[title] = ", ".join(named)
    pairs(console, rows)
    for each in texts(answer.get("assumptions")):
        say(console, f"Assumed: {each}", "dim")
    say(console, "Nothing was started.")


def _timeframes(answer: Mapping[str, Any]) -> list[str]:
    return texts(answer.get("timeframes")) or [NOTHING]


def _sources(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record(each) for name, each in record(answer.get("sources")).items()}


def _source(each: Mapping[str, Any]) -> str:
    return (
        f"{amount(each.get('windows'))} units, {amount(each.get('requests'))} requests, "
        f"weight {amount(each.get('weight'))}"
    )


def _dollars(value: Any) -> str:
    found = number(value)
    return NOTHING if found is None else f"${found:,.4f}"


def _size(value: Any) -> str:
    """1234567 as 1.2 MB."""
    found = number(value)
    if found is None:
        return NOTHING
    at = 0
    while found >= 1000 and at < len(_UNITS) - 1:
        found, at = found / 1000, at + 1
    return f"{found:,.1f} {_UNITS[at]}" if at else f"{found:,.0f} bytes"

"""A part of CloudWatch Logs Insights, for the embedded cloud, whose own knows neither `stats` nor
fields of JSON. On AWS the same queries go to CloudWatch (`ask`).

Understood: SOURCE, fields, display, filter (=, !=, <, <=, >, >=, like "text" or /pattern/,
ispresent, and, or, not, brackets), stats (count, sum, avg, min, max, latest, earliest; by), sort,
limit.

Source: CloudWatch Logs User Guide, "CloudWatch Logs Insights language query syntax".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from local.aws import Account
from local.log_events import log_events

Record = dict[str, Any]
Predicate = Callable[[Record], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<pattern>/(?:\\.|[^/\\])*/)"""
    r"""|(?P<number>-?\d+(?:\.\d+)?(?![\w.@]))|(?P<word>[\w.@]+)|(?P<sign>!=|<=|>=|=|<|>|\(|\)|,|\*))"""
)
_STATS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": lambda values: sum(map(float, values)),
    "avg": lambda values: sum(map(float, values)) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "latest": lambda values: values[-1] if values else None,
    "earliest": lambda values: values[0] if values else None,
}


class Answer(NamedTuple):
    columns: list[str]
    rows: list[list[Any]]


class QueryInvalid(Exception):
    """The query is none, or not among what is understood here."""


def ask(to: Account, query: str, groups: Sequence[str], start_ms: int, end_ms: int) -> Answer:
    """The answer to a query; `groups` where it names no SOURCE of its own."""
    named = re.findall(r"SOURCE\s+'([^']+)'", query)
    rest = " | ".join(stage for stage in stages(query) if not stage.startswith("SOURCE"))
    if not to.embedded:
        return _ask_cloudwatch(to, rest, named or groups, start_ms, end_ms)
    records = [
        record_of(event, group)
        for group in named or groups
        for event in log_events(to, group, start_ms, until_ms=end_ms)
    ]
    return run(rest, sorted(records, key=lambda record: str(record["@timestamp"])))


def _ask_cloudwatch(
    to: Account, query: str, groups: Sequence[str], start_ms: int, end_ms: int
) -> Answer:
    logs = to.client("logs")
    started = logs.start_query(
        logGroupNames=list(groups),
        startTime=start_ms // 1000,
        endTime=-(-end_ms // 1000),
        queryString=query,
    )
    while True:
        answer = logs.get_query_results(queryId=started["queryId"])
        if answer["status"] not in ("Scheduled", "Running"):
            break
        time.sleep(0.5)
    found = [{cell["field"]: cell.get("value") for cell in row} for row in answer["results"]]
    columns = [
        name for name in dict.fromkeys(key for row in found for key in row) if name != "@ptr"
    ]
    return Answer(columns, [[row.get(name) for name in columns] for row in found])


def record_of(event: dict[str, Any], group: str) -> Record:
    """A log event with the fields of its JSON, where it is JSON."""
    message = event["message"]
    try:
        fields = json.loads(message)
    except ValueError:
        fields = {}
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["timestamp"] // 1000))
    own = {
        "@timestamp": f"{stamp}.{event['timestamp'] % 1000:03d}",
        "@message": message,
        "@log": group,
        "@logStream": event.get("logStreamName", ""),
    }
    return {**(fields if isinstance(fields, dict) else {}), **own}


def run(query: str, records: Iterable[Record]) -> Answer:
    """The answer over records in order of time. Raises QueryInvalid."""
    found, columns = list(records), ["@timestamp", "@message"]
    for stage in stages(query):
        word, _, rest = stage.partition(" ")
        if word in ("fields", "display"):
            columns = [name.strip() for name in rest.split(",")]
        elif word == "filter":
            wanted = _Condition(rest).parsed()
            found = [record for record in found if wanted(record)]
        elif word == "stats":
            columns, found = _stats(rest, found)
        elif word == "sort":
            name, _, way = rest.strip().partition(" ")
            found.sort(key=lambda record: _order(record.get(name)), reverse=way.strip() == "desc")
        elif word == "limit":
            found = found[: int(rest)]
        else:
            raise QueryInvalid(f"{word!r} is not understood here")
    return Answer(columns, [[record.get(name) for name in columns] for record in found])


def stages(query: str) -> list[str]:
    """The query's commands: cut at every | outside quotes and patterns."""
    parts = re.findall(
        r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|/(?:\\.|[^/\\])*/|[^|])+""", query
    )
    return [part.strip() for part in parts if part.strip()]


def _stats(text: str, records: list[Record]) -> tuple[list[str], list[Record]]:
    wanted, _, by = text.partition(" by ")
    keys = [name.strip() for name in by.split(",") if name.strip()]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record.get(key) for key in keys), []).append(record)
    asked = re.findall(r"(\w+)\(([^)]*)\)(?:\s+as\s+(\w+))?", wanted)
    names = [alias or f"{function}({field})" for function, field, alias in asked]
    rows = []
    for values, members in groups.items():
        row: Record = dict(zip(keys, values, strict=True))
        for name, (function, field, _) in zip(names, asked, strict=True):
            row[name] = _statistic(function, field.strip(), members)
        rows.append(row)
    return [*keys, *names], rows


def _statistic(function: str, field: str, members: list[Record]) -> Any:
    values = [record[field] for record in members if record.get(field) is not None]
    if function == "count":
        return len(members) if field in ("*", "") else len(values)
    if function not in _STATS:
        raise QueryInvalid(f"the statistic {function!r} is not understood here")
    return _STATS[function](values)


def _order(value: Any) -> tuple[int, float, str]:
    """Absent first, then numbers, then texts."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, (int, float)):
        return 1, float(value), ""
    return 2, 0.0, str(value)


class _Condition:
    """A filter's condition, by recursive descent: or, and, not, comparison."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            token = _TOKEN.match(text, at)
            if token is None:
                raise QueryInvalid(f"not understood: {text[at:]!r}")
            self._tokens.append(token[0].strip())
            at = token.end()

    def parsed(self) -> Predicate:
        wanted = self._either()
        if self._tokens:
            raise QueryInvalid(f"not understood: {' '.join(self._tokens)!r}")
        return wanted

    def _take(self) -> str:
        if not self._tokens:
            raise QueryInvalid("the filter breaks off")
        return self._tokens.pop(0)

    def _next_is(self, word: str) -> bool:
        if self._tokens and self._tokens[0] == word:
            self._tokens.pop(0)
            return True
        return False

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._next_is("or"):
            parts.append(self._both())
        return lambda record: any(part(record) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._next_is("and"):
            parts.append(self._one())
        return lambda record: all(part(record) for part in parts)

    def _one(self) -> Predicate:
        if self._next_is("not"):
            wrong = self._one()
            return lambda record: not wrong(record)
        if self._next_is("("):
            inner = self._either()
            self._expect(")")
            return inner
        name = self._take()
        if name == "ispresent":
            self._expect("(")
            field = self._take()
            self._expect(")")
            return lambda record: record.get(field) is not None
        return _compared(name, self._take(), self._take())

    def _expect(self, word: str) -> None:
        if not self._next_is(word):
            raise QueryInvalid(f"{word!r} is missing")


def _compared(name: str, sign: str, literal: str) -> Predicate:
    if sign == "like":
        text = re.compile(literal[1:-1] if literal[0] == "/" else re.escape(literal[1:-1]))
        return lambda record: text.search(str(record.get(name, ""))) is not None
    value: Any = literal[1:-1] if literal[0] in "\"'" else float(literal)
    compare: dict[str, Callable[[Any], bool]] = {
        "=": lambda found: bool(found == value),
        "!=": lambda found: bool(found != value),
        "<": lambda found: bool(found < value),
        "<=": lambda found: bool(found <= value),
        ">": lambda found: bool(found > value),
        ">=": lambda found: bool(found >= value),
    }
    if sign not in compare:
        raise QueryInvalid(f"{sign!r} is not understood here")

    def holds(record: Record) -> bool:
        found = record.get(name)
        comparable = isinstance(found, str) == isinstance(value, str) and found is not None
        return compare[sign](found) if comparable else sign == "!="

    return holds

"""Faults that can be switched on while the exchange runs.

A rule is a JSON object; only `kind` is mandatory:

    {"kind": "status",                     one of KINDS
     "match": {"path": "/api/v3/klines",   a path or a pattern with * (default: every path)
               "symbol": "BTCUSDT",        default: every symbol
               "interval": "1m"},          default: every interval
     "probability": 0.5,                   of each matching request, default 1
     "remaining": 3,                       how often it still strikes, default without end
     ...}                                  and what its kind asks for:

    status            status (500), code, msg, retry_after (seconds): an error reply
    latency           delay_ms (1000): the reply comes later, and other rules still apply
    outage            mode "close" (default: no reply, the connection ends) or "503"
    html403           the firewall's page instead of JSON
    html200           a maintenance page with status 200
    ignored_times     mode "start" (default: klines are answered as if no startTime were asked
                      for) or "both" (nor an endTime: the same page to every question)
    truncated_json    half of the body
    wrong_types       numbers as strings, decimals as numbers
    drifted_rows      each row of a list as an object, as in another version of the API
    reordered_rows    mode "newest_first" (default) or "shuffled": the rows of a list
    null_value        open_time optional: the row, or else the list's first, has null for its high
    revised_candle    open_time (epoch ms) and match.symbol, match.interval: a closed candle
                      has other values from now on (its timeframe only)
    left_out          open_time, until (epoch ms; default: that candle alone): the exchange has no
                      candle that opens from then on and before, while the rule lasts; its archive
                      has them
    shifted_grid      shift_ms (86400000): candles open so much later than on the usual grid
    invalid_candle    open_time optional: the candle, or else the page's first, has its high
                      below its low
    delisted          match.symbol; mode "gone" (default: -1121, and not in exchangeInfo; still
                      in ticker/price, as on the exchange) or "break" (status BREAK)
    short_listing     percent (50): exchangeInfo leaves out so many of its symbols
    archive           mode, of files of the bulk archive (their symbol and interval match, too):
                      "missing" (no such file), "checksum" (another file's), "truncated" (half of
                      the file), or a file whose checksum is right and which is "short" (its last 6
                      hours are missing), "revised" (some candles have other values), has a
                      "header", times in the "other_unit", a member of the "other_name",
                      "garbage" between its lines, or is a "bomb" (of 300 MB). `remaining` counts
                      requests: a file and its checksum are two, of which "checksum" and
                      "truncated" strike one

Rules strike in the order in which they were made; the first that gives another reply wins.
Whether a rule of some probability strikes depends on the seed and on how often it was asked.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any

from local.exchange.catalogue import Symbol
from local.exchange.errors import ApiError
from local.exchange.splitting import Candle

REPLIES = ("status", "outage", "html403", "html200")
BODIES = ("truncated_json", "wrong_types", "drifted_rows", "reordered_rows", "null_value")
CANDLES = ("revised_candle", "invalid_candle")
KINDS = (
    *REPLIES,
    *BODIES,
    *CANDLES,
    "left_out",
    "ignored_times",
    "shifted_grid",
    "latency",
    "delisted",
    "short_listing",
    "archive",
)
#: Modes of the kind archive: what a file is made of, and how its answer is spoiled.
SPOILED_FILES = ("short", "revised", "header", "other_unit", "other_name", "garbage", "bomb")
SPOILED_ANSWERS = ("missing", "checksum", "truncated")
_STRIKES_ONE = {"checksum": "*.CHECKSUM", "truncated": "*.zip"}
ARCHIVE_MODES = (*SPOILED_ANSWERS, *SPOILED_FILES)

_MESSAGES = {
    418: (-1003, "Way too much request weight used; IP banned until {ban}."),
    429: (-1003, "Too much request weight used; please use WebSocket Streams."),
    451: (0, "Service unavailable from a restricted location."),
    500: (-1000, "An unknown error occurred while processing the request."),
    503: (-1008, "Server is currently overloaded with other requests. Please try again later."),
    504: (-1007, "Timeout waiting for response from backend server."),
}
# The firewall answers with a page of its content network, not with JSON.
FIREWALL_PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">
<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>
<BODY><H1>403 ERROR</H1><H2>The request could not be satisfied.</H2>
<HR noshade size="1px">Request blocked.<PRE>Generated by local exchange</PRE></BODY></HTML>
"""
MAINTENANCE_PAGE = """<!DOCTYPE html>
<html><head><title>System upgrade</title></head><body><h1>We will be back soon</h1></body></html>
"""


@dataclass
class Rule:
    """A fault; the module's docstring says what the fields mean."""

    kind: str
    id: int = 0
    match: dict[str, str] = field(default_factory=dict)
    probability: float = 1.0
    remaining: int | None = None
    status: int = 500
    code: int | None = None
    msg: str | None = None
    retry_after: int | None = None
    delay_ms: int = 1000
    mode: str = ""
    open_time: int | None = None
    until: int | None = None
    percent: int = 50
    shift_ms: int = 86_400_000
    asked: int = 0
    struck: int = 0

    def matches(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a request is meant, by path, symbol and interval."""
        wanted = self.match
        if not fnmatchcase(path, wanted.get("path", "*")):
            return False
        names = ("symbol", "interval")
        return all(name not in wanted or query.get(name) == wanted[name] for name in names)


class Faults:
    """The rules in force."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[Rule] = []
        self._made = 0

    def add(self, fields: Any) -> Rule:
        """A new rule from its JSON object. Raises ValueError with what is wrong with it."""
        rule = _parse(fields)
        self._made += 1
        rule.id = self._made
        self._rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> int:
        """Remove one rule, or all; how many were removed."""
        kept = [rule for rule in self._rules if rule_id is not None and rule.id != rule_id]
        removed = len(self._rules) - len(kept)
        self._rules = kept
        return removed

    def to_json(self) -> list[dict[str, Any]]:
        """All rules, and how often each was asked and struck."""
        return [asdict(rule) for rule in self._rules]

    def striking(
        self, kinds: tuple[str, ...], path: str, query: Mapping[str, str]
    ) -> Iterator[Rule]:
        """The rules of some kinds that strike this request; each that is taken is counted."""
        for rule in list(self._rules):
            if rule.kind in kinds and rule.matches(path, query) and self._strikes(rule):
                yield rule

    def delisted(self, symbol: str) -> str | None:
        """How a symbol is delisted: "gone", "break", or None."""
        for rule in self._rules:
            if rule.kind == "delisted" and rule.match["symbol"] == symbol:
                return rule.mode or "gone"
        return None

    def times_of(
        self, path: str, query: Mapping[str, str], start: int | None, end: int | None
    ) -> tuple[int | None, int | None]:
        """The startTime and endTime of a query (epoch ms) that are not ignored."""
        for rule in self.striking(("ignored_times",), path, query):
            start, end = None, None if rule.mode == "both" else end
        return start, end

    def shift_of(self, path: str, query: Mapping[str, str]) -> int:
        """How much later than on the usual grid candles open, in ms."""
        return sum(rule.shift_ms for rule in self.striking(("shifted_grid",), path, query))

    def left_out(self, path: str, query: Mapping[str, str]) -> list[tuple[int, int]]:
        """The stretches [from, to) in epoch ms in which no candle opens."""
        return [
            (rule.open_time, rule.open_time + 1 if rule.until is None else rule.until)
            for rule in self.striking(("left_out",), path, query)
            if rule.open_time is not None
        ]

    def shorten(self, symbols: list[Symbol]) -> list[Symbol]:
        """What exchangeInfo lists of all symbols."""
        left_out = max((r.percent for r in self._rules if r.kind == "short_listing"), default=0)
        return symbols[: len(symbols) * max(0, 100 - left_out) // 100]

    def spoil_candles(
        self, path: str, symbol: Symbol, interval: str, candles: list[Candle]
    ) -> list[Candle]:
        """The candles with those replaced that a rule revises or breaks."""
        query = {"symbol": symbol.name, "interval": interval}
        for rule in self._rules:
            if rule.kind not in CANDLES or not rule.matches(path, query) or not candles:
                continue
            at = rule.open_time if rule.open_time is not None else candles[0].open_time
            where = next((i for i, candle in enumerate(candles) if candle.open_time == at), None)
            if where is not None and self._strikes(rule):
                spoiled = _SPOILED[rule.kind](candles[where])
                candles = [*candles[:where], spoiled, *candles[where + 1 :]]
        return candles

    def _strikes(self, rule: Rule) -> bool:
        if rule.remaining == 0:
            return False
        rule.asked += 1
        key = f"{self._seed}/{rule.id}/{rule.asked}".encode()
        chance = int.from_bytes(blake2b(key, digest_size=6).digest(), "big") / 2**48
        if chance >= rule.probability:
            return False
        rule.struck += 1
        if rule.remaining is not None:
            rule.remaining -= 1
        return True


def error_of(rule: Rule, now: int) -> ApiError:
    """The error reply of a `status` rule, or of an `outage` with mode "503"."""
    status = 503 if rule.kind == "outage" else rule.status
    code, msg = _MESSAGES.get(status, (-1000, "An error occurred."))
    wait = rule.retry_after
    if wait is None and status in (418, 429):
        wait = 120 if status == 418 else 10
    msg = (rule.msg or msg).replace("{ban}", str(now + (wait or 0) * 1000))
    return ApiError(code if rule.code is None else rule.code, msg, status, wait)


def _parse(fields: Any) -> Rule:
    if not isinstance(fields, dict) or fields.get("kind") not in KINDS:
        raise ValueError(f"a rule is an object with a kind, one of {', '.join(KINDS)}")
    unknown = set(fields) - set(Rule.__dataclass_fields__) | {"id", "asked", "struck"} & set(fields)
    if unknown:
        raise ValueError(f"a rule has no field {', '.join(sorted(unknown))}")
    match = fields.get("match", {})
    if not isinstance(match, dict) or set(match) - {"path", "symbol", "interval"}:
        raise ValueError("match is an object with path, symbol and interval, each optional")
    for name in (
        "probability",
        "remaining",
        "status",
        "delay_ms",
        "open_time",
        "until",
        "retry_after",
        "percent",
        "shift_ms",
    ):
        value = fields.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name} is a number of at least 0")
    rule = Rule(**fields)
    if rule.kind == "archive" and rule.mode in _STRIKES_ONE:
        rule.match = {"path": _STRIKES_ONE[rule.mode], **match}
    if rule.kind == "delisted" and "symbol" not in match:
        raise ValueError("delisted needs match.symbol")
    if rule.kind == "archive" and rule.mode not in ARCHIVE_MODES:
        raise ValueError(f"archive needs a mode, one of {', '.join(ARCHIVE_MODES)}")
    if rule.kind == "left_out" and rule.open_time is None:
        raise ValueError("left_out needs open_time")
    if rule.kind == "revised_candle" and (
        rule.open_time is None or not {"symbol", "interval"} <= set(match)
    ):
        raise ValueError("revised_candle needs open_time, match.symbol and match.interval")
    return rule


def revise(candle: Candle) -> Candle:
    """Late trades were added: more volume, a new high, another close. Still a valid candle."""
    more = candle.volume // 50 + 1
    high = candle.high + candle.high // 500 + 1
    return candle._replace(
        high=high,
        close=high - 1 if candle.close != high - 1 else high,
        volume=candle.volume + more,
        quote_volume=candle.quote_volume + more * candle.close,
        trades=candle.trades + 1,
    )


def _break(candle: Candle) -> Candle:
    return candle._replace(high=candle.low, low=candle.high + 1)


#: Kind of CANDLES -> what is served instead of the candle.
_SPOILED: dict[str, Callable[[Candle], Candle]] = {
    "revised_candle": revise,
    "invalid_candle": _break,
}

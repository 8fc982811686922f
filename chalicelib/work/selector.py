"""Selecting symbols: by name, by pattern, by what the exchange says of them. Pure.

A list of symbols holds entries of these forms:

    BTCUSDT           a name, as the exchange spells it; never a pattern
    *USDT, BTC*       a pattern: `*` stands for any characters, none too
    quote=USDT        symbols of that quote asset; base=BTC of that base asset; status=BREAK in that
                      status. The value may be a pattern: quote=*USD, status=*
    top=100           the so many symbols with the largest quote volume of the last 24 hours
    !XRPUSDT          none of these: `!` before a name, a pattern, or quote=, base=, status=

How they combine, in this order:

1. Names and patterns add up. Without any, it is all symbols.
2. quote=, base= and status= narrow that. Several of one key: any of them; of different keys: each.
3. Without status=, only symbols that trade stay, and those that are named in full.
4. Exclusions take away.
5. top= keeps the largest of what is left.

Quote volumes are in units of the quote asset: `top=` means little where the quote assets differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from chalicelib.core.problems import Errors, problem
from chalicelib.core.settings import SELECTOR_MARKS, SYMBOL_PATTERN
from chalicelib.core.symbols import QUOTES, TRADING, assets_of

NAME, PATTERN, QUOTE, BASE, STATUS, TOP = "name", "pattern", "quote", "base", "status", "top"
KEYS = (QUOTE, BASE, STATUS, TOP)
#: Entries of one list that are no names: each of them looks at all symbols.
MOST_SELECTORS = 100
#: What people put into names of symbols and timeframes that has no place there.
SEPARATORS = re.compile(r"[\s/_-]")
_FILTERS = (QUOTE, BASE, STATUS)
_NO_SYMBOL = "is not a symbol"
_FORMS = "BTCUSDT, *USDT, quote=USDT, base=BTC, status=TRADING, top=100, or !XRPUSDT"


class Term(NamedTuple):
    """An entry, read. `kind`: NAME, PATTERN or one of KEYS; `excluded`: it begins with `!`."""

    kind: str
    value: str
    excluded: bool = False

    def __str__(self) -> str:
        key = f"{self.kind}=" if self.kind in KEYS else ""
        return f"{'!' if self.excluded else ''}{key}{self.value}"


class Market(NamedTuple):
    """What is known of symbols. `statuses`: symbol -> status; `assets`: symbol -> its base and
    quote asset, where the exchange says them; `volumes`: symbol -> quote volume of 24 hours, in its
    quote asset."""

    statuses: Mapping[str, str]
    assets: Mapping[str, Sequence[str]] = {}
    volumes: Mapping[str, float] = {}


def read(entry: str) -> Term:
    """Raises ValueError with what is wrong with the entry."""
    text = entry.removeprefix("!")
    excluded = text != entry
    key, equals, value = text.partition("=")
    if not equals:
        kind = PATTERN if "*" in text else NAME
        return Term(kind, _well_formed(text, text.replace("*", "xx")), excluded)
    if key not in KEYS:
        near_keys = _close(key.strip().lower(), KEYS)
        hint = f"; did you mean {near_keys[0]}={value.strip()}?" if near_keys else ""
        raise ValueError(f"has an unknown key; allowed are {', '.join(KEYS)}{hint}")
    if key != TOP:
        return Term(key, _well_formed(value, value.replace("*", "") + "xx"), excluded)
    if excluded:
        raise ValueError("cannot be excluded: top= keeps the largest of what is left")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", value, re.ASCII):
        raise ValueError("must be a number from 1 to 99999, like top=100")
    return Term(TOP, value)


def _well_formed(text: str, as_name: str) -> str:
    if not text or not SYMBOL_PATTERN.fullmatch(as_name):
        raise ValueError(_NO_SYMBOL)
    return text


def is_plain(entries: Iterable[str]) -> bool:
    """Whether all entries are names, so that they say by themselves what is selected."""
    return not any(mark in entry for entry in entries for mark in SELECTOR_MARKS)


def needs_volumes(entries: Iterable[str]) -> bool:
    """Whether an entry says how many symbols of the largest quote volume are wanted."""
    return any(entry.startswith(f"{TOP}=") for entry in entries)


def parse(
    given: Iterable[tuple[str, str]], known: Mapping[str, str] | None, errors: Errors
) -> tuple[str, ...]:
    """The entries of a list, each once; what is wrong with them is noted in `errors`.

    `given`: (pointer, entry); `known`: symbol -> status of the catalogue, delisted ones too, None
    where it was never loaded (entries are then only checked for their form). An entry that selects
    nothing now is refused where another spelling of it selects something.
    """
    found: dict[str, Term] = {}
    quotes = cache(lambda: _quotes(known or {}))
    for pointer, entry in given:
        if entry in found:
            continue
        try:
            term = found[entry] = read(entry)
        except ValueError as error:
            detail, close = str(error), near(entry)
            if close in (known or ()):
                detail += f"; did you mean {close}?"
            elif detail == _NO_SYMBOL:
                detail += f"; an entry reads like {_FORMS}"
            errors.append(problem(detail, pointer))
            continue
        others = [other for other in found.values() if other.kind != NAME]
        if term.kind != NAME and len(others) > MOST_SELECTORS:
            errors.append(problem(f"at most {MOST_SELECTORS} entries may be no names", pointer))
            break  # each takes time to look for
        if term.kind == TOP and sum(other.kind == TOP for other in others) > 1:
            errors.append(problem("there may be one top=", pointer))
        elif known is not None and (detail := _unknown(term, known, quotes)):
            errors.append(problem(detail, pointer))
    return tuple(found)


def _unknown(term: Term, known: Mapping[str, str], quotes: Callable[[], list[str]]) -> str:
    """What is wrong with a well-formed entry, as far as the known symbols show it; "": nothing.

    `quotes`: those that known symbols have."""
    if _selects(term, known):
        return ""
    hints = [hint for hint in _respelt(term, known, quotes) if _selects(hint, known)]
    hint = f"; did you mean {hints[0]}?" if hints else ""
    if term.kind == NAME:
        if may_be_new(term.value, known):
            hint = "; where it is new, try again in a minute: the list is being read again"
        return f"unknown symbol {term.value}{hint} (GET /tasks/stats lists the known ones)"
    return f"no known symbol is like that{hint}" if hint else ""


def may_be_new(name: str, known: Mapping[str, str]) -> bool:
    """Whether a well-formed name is neither known nor a known one, spelt in another way."""
    return name not in known and near(name) not in known


def near(text: str) -> str:
    """A text as the exchange may spell it."""
    return SEPARATORS.sub("", text).upper()


def _quotes(known: Mapping[str, str]) -> list[str]:
    return sorted(quote for quote in QUOTES if any(name.endswith(quote) for name in known))


def _respelt(term: Term, known: Mapping[str, str], quotes: Callable[[], list[str]]) -> list[Term]:
    """The entry in other spellings, the likeliest first."""
    values = [near(term.value) if term.kind != STATUS else term.value.strip().upper()]
    if term.kind == QUOTE:
        values += _close(values[0], quotes())
    if term.kind == STATUS:
        values += _close(values[0], sorted({*known.values()}))
    return [term._replace(value=value) for value in values]


def _selects(term: Term, known: Mapping[str, str]) -> bool:
    """Whether the entry alone may select one of the known symbols. Of assets only the names tell
    here: a quote asset is at the end of a name, and a base asset at the beginning."""
    if term.kind == NAME:
        return term.value in known
    if term.kind == STATUS:
        return any(matches(term.value, status) for status in {*known.values()})
    pattern = {QUOTE: f"*{term.value}", BASE: f"{term.value}*"}.get(term.kind, term.value)
    return term.kind == TOP or any(matches(pattern, name) for name in known)


def _close(word: str, words: Sequence[str]) -> list[str]:
    # Here, not above: the API's cold start would pay for it.
    from difflib import get_close_matches

    return get_close_matches(word, words)


def select(entries: Iterable[str], market: Market) -> tuple[str, ...]:
    """The symbols that a list of entries selects: the largest first where it has a top=, else by
    name. Of a symbol whose volume is not known, top= thinks that it is the smallest."""
    terms = [read(entry) for entry in entries]
    names = {term.value for term in terms if term.kind == NAME and not term.excluded}
    gone = {term.value for term in terms if term.kind == NAME and term.excluded}
    wanted: dict[str, list[Callable[[str], bool]]] = {}
    unwanted: list[Callable[[str], bool]] = []
    most = None
    for term in terms:
        if term.kind == TOP:
            most = int(term.value)
        elif term.kind != NAME:
            test = _test_of(term, market)
            (unwanted if term.excluded else wanted.setdefault(term.kind, [])).append(test)
    found = set(market.statuses)
    if names or PATTERN in wanted:
        patterns = wanted.get(PATTERN, ())
        found = names | {name for name in found if any(fits(name) for fits in patterns)}
    for key in _FILTERS:
        if key in wanted:
            found = {name for name in found if any(fits(name) for fits in wanted[key])}
    if STATUS not in wanted:
        found = {name for name in found if name in names or market.statuses[name] == TRADING}
    found = {name for name in found - gone if not any(fits(name) for fits in unwanted)}
    if most is None:
        return tuple(sorted(found))
    largest = sorted(found, key=lambda name: (-market.volumes.get(name, -1), name))
    return tuple(largest[:most])


def _test_of(term: Term, market: Market) -> Callable[[str], bool]:
    """Whether a pattern, or a filter of base, quote or status, fits a symbol."""
    read_value: dict[str, Callable[[str], str]] = {
        PATTERN: lambda name: name,
        BASE: lambda name: assets_of(name, market.assets)[0],
        QUOTE: lambda name: assets_of(name, market.assets)[1],
        STATUS: lambda name: market.statuses.get(name, ""),
    }
    value_of = read_value[term.kind]
    return lambda name: matches(term.value, value_of(name))


def matches(pattern: str, text: str) -> bool:
    """Whether a text is a pattern's, in which `*` stands for any characters, none too.

    In a time that grows with the lengths alone, which a regular expression does not promise.
    """
    first, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    *middle, last = parts
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True

"""What a list of symbols selects: against an oracle that looks at one symbol at a time."""

from __future__ import annotations

from fnmatch import fnmatchcase
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.problems import Errors
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.symbols import TRADING, assets_of
from chalicelib.work import selector
from chalicelib.work.selector import (
    MOST_SELECTORS,
    Market,
    is_plain,
    matches,
    needs_volumes,
    parse,
    read,
    select,
)

each_time = settings(deadline=None)
BASES, QUOTES = ("BTC", "BTCUP", "ETH", "A"), ("USDT", "BTC", "EUR")
NAMES = [base + quote for base in BASES for quote in QUOTES]
ASSETS = {base + quote: (base, quote) for base in BASES for quote in QUOTES}
STATUSES = (TRADING, "BREAK", "DELISTED")
KNOWN = {"BTCUSDT": TRADING, "ETHUSDT": TRADING, "ETHBTC": TRADING, "OLDUSDT": "BREAK"}

markets = st.builds(
    Market,
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STATUSES)),
    st.just(ASSETS),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3).map(float)),
)
names = st.sampled_from([*NAMES, "NEWUSDT"])
patterns = st.lists(st.sampled_from(["*", "B", "BTC", "UP", "US", "DT"]), min_size=1, max_size=4)
wildcards = patterns.map("".join).filter(lambda text: "*" in text)
filters = st.one_of(
    st.sampled_from(QUOTES).map("quote={}".format),
    st.sampled_from(BASES).map("base={}".format),
    st.sampled_from([*STATUSES, "*", "BR*"]).map("status={}".format),
    st.sampled_from(["quote=*T", "quote=*", "base=BTC*"]),
)
entries = st.one_of(names, wildcards, filters)
lists = st.builds(
    lambda plus, minus, top: [*plus, *(f"!{entry}" for entry in minus), *top],
    st.lists(entries, max_size=4),
    st.lists(entries, max_size=2),
    st.lists(st.integers(1, 6).map("top={}".format), max_size=1),
).flatmap(st.permutations)


def fits(entry: str, name: str, market: Market) -> bool:
    """One entry, without `!`, and one symbol."""
    key, _, value = entry.rpartition("=")
    base, quote = ASSETS.get(name, ("NEW", "USDT"))
    found = {"": name, "base": base, "quote": quote, "status": market.statuses.get(name, "")}[key]
    return fnmatchcase(found, value)


def is_left(given: list[str], name: str, market: Market) -> bool:
    """Whether a list selects a symbol, but for its top=."""
    plus = [entry for entry in given if entry[0] != "!" and not entry.startswith("top=")]
    sources = [entry for entry in plus if "=" not in entry]
    by_key = {
        key: [entry for entry in plus if entry.startswith(f"{key}=")]
        for key in ("base", "quote", "status")
    }
    return (
        (
            name in sources
            or (
                name in market.statuses
                and (not sources or any(fits(entry, name, market) for entry in sources))
            )
        )
        and all(
            any(fits(entry, name, market) for entry in same) for same in by_key.values() if same
        )
        and (bool(by_key["status"]) or name in sources or market.statuses[name] == TRADING)
        and not any(fits(entry[1:], name, market) for entry in given if entry[0] == "!")
    )


@each_time
@given(lists, markets)
def test_a_list_selects_what_each_symbol_says_of_itself(given: list[str], market: Market) -> None:
    left = {name for name in [*NAMES, "NEWUSDT"] if is_left(given, name, market)}
    chosen = select(given, market)
    tops = [int(entry.removeprefix("top=")) for entry in given if entry.startswith("top=")]
    assert len(chosen) == len(set(chosen)) == min([len(left), *tops])
    assert set(chosen) <= left
    if not tops:
        assert set(chosen) == left
        return
    volumes = [market.volumes.get(name, -1) for name in chosen]
    assert volumes == sorted(volumes, reverse=True)
    others = [market.volumes.get(name, -1) for name in left - set(chosen)]
    assert max(others, default=-1) <= min(volumes, default=9)


@each_time
@given(st.lists(names), markets)
def test_a_list_of_names_selects_just_them(given: list[str], market: Market) -> None:
    assert is_plain(given)
    assert not given or set(select(given, market)) == set(given)


@each_time
@given(st.text("AB*", max_size=12), st.text("AB", max_size=12))
def test_a_star_stands_for_any_characters(pattern: str, text: str) -> None:
    assert matches(pattern, text) == fnmatchcase(text, pattern)


def test_a_pattern_of_many_stars_is_as_quick_as_another() -> None:
    assert not matches("*A" * 20 + "B", "A" * 39 + "C")


@each_time
@given(st.from_regex(SYMBOL_PATTERN, fullmatch=True))
def test_no_name_is_a_pattern(name: str) -> None:
    assert read(name) == ("name", name, False)
    assert is_plain([name])
    assert not needs_volumes([name])


anything = st.text(st.characters(codec=None), max_size=8)


@each_time
@given(
    st.lists(
        st.one_of(
            anything,
            st.builds(
                "".join, st.lists(st.sampled_from(["!", "*", "=", "quote", "top", "1", "A"]))
            ),
            lists.map("".join),
            entries,
        ),
        max_size=6,
    ),
    st.sampled_from([None, KNOWN, {}]),
)
def test_whatever_a_list_holds_it_can_be_selected_or_its_problems_are_named(
    given: list[str], known: dict[str, str] | None
) -> None:
    errors: Errors = []
    parsed = parse(((f"/symbols/{at}", entry) for at, entry in enumerate(given)), known, errors)
    for each in errors:
        assert each["detail"]
        assert 0 <= int(each["pointer"].removeprefix("/symbols/")) < len(given)
    if errors:
        return
    assert parsed == tuple(dict.fromkeys(given))
    select(parsed, Market(KNOWN))
    assert all(str(read(entry)) == entry for entry in parsed)


def problem_of(*given: str, known: dict[str, str] | None = KNOWN) -> str:
    errors: Errors = []
    parse((("/symbols", entry) for entry in given), known, errors)
    return "; ".join(each["detail"] for each in errors)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("btcusdt", "did you mean BTCUSDT?"),
        ("!btc-usdt", "unknown symbol btc-usdt; did you mean !BTCUSDT?"),
        ("BTC/USDT", "is not a symbol; did you mean BTCUSDT?"),
        ("NEWUSDT", "try again in a minute"),
        ("*usdt", "did you mean *USDT?"),
        ("!btc*", "did you mean !BTC*?"),
        ("quote=usdt", "did you mean quote=USDT?"),
        ("quote=USTD", "did you mean quote=USDT?"),
        ("base=eth", "did you mean base=ETH?"),
        ("status=trading", "did you mean status=TRADING?"),
        ("status=BRAEK", "did you mean status=BREAK?"),
        ("qoute=USDT", "allowed are quote, base, status, top; did you mean quote=USDT?"),
        ("Top=5", "did you mean top=5?"),
        ("volume=5", "allowed are quote, base, status, top"),
        ("top=0", "must be a number from 1 to 99999"),
        ("top=-1", "must be a number"),
        ("top=1e3", "must be a number"),
        ("top=", "must be a number"),
        ("!top=3", "cannot be excluded"),
        ("quote=", "is not a symbol; an entry reads like"),
        ("quote=A=B", "is not a symbol"),
        ("!", "is not a symbol"),
        ("!!BTCUSDT", "is not a symbol"),
        ("", "is not a symbol"),
        ("BTC?", "is not a symbol"),
        ("* USDT", "is not a symbol"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_with_what_was_meant(entry: str, said: str) -> None:
    assert said in problem_of(entry)


@pytest.mark.parametrize(
    "entry",
    ["*USDT", "ZZZ*", "quote=ZZZ", "base=1000*", "status=HALT", "!OLDUSDT", "!*UP*", "top=9"],
)
def test_a_selector_may_select_nothing_yet(entry: str) -> None:
    assert not problem_of(entry)
    assert not problem_of(entry, known=None)


def test_one_list_has_one_top_and_a_bounded_number_of_selectors() -> None:
    assert problem_of("top=3", "top=3") == ""
    assert problem_of("top=3", "top=4") == "there may be one top="
    assert problem_of(*(f"A{n}*" for n in range(MOST_SELECTORS)), *KNOWN) == ""
    many = [f"A{n}*" for n in range(MOST_SELECTORS + 5)]
    assert problem_of(*many) == f"at most {MOST_SELECTORS} entries may be no names"


def test_what_known_symbols_are_quoted_in_is_looked_for_once() -> None:
    """However many entries select nothing: that takes a moment with thousands of symbols."""
    with patch.object(selector, "_quotes", wraps=selector._quotes) as looked:
        assert problem_of(*(f"quote=ZZ{n}" for n in range(50))) == ""
        assert looked.call_count == 1
        assert problem_of("quote=USDT", "BTCUSDT", "*USDT") == ""
        assert looked.call_count == 1


def test_no_entry_behind_the_last_one_allowed_is_looked_for() -> None:
    given = [(f"/{n}", f"quote=ZZ{n}") for n in range(5_000)]
    errors: Errors = []
    found = parse(given, KNOWN, errors)
    assert [error["pointer"] for error in errors] == [f"/{MOST_SELECTORS}"]
    assert len(found) == MOST_SELECTORS + 1


def test_assets_are_those_of_the_exchange_else_the_longest_known_end_of_the_name() -> None:
    assert assets_of("ETHBTC", {"ETHBTC": ("ET", "HBTC")}) == ("ET", "HBTC")
    assert assets_of("BTCFDUSD", {}) == ("BTC", "FDUSD")
    assert assets_of("USDT", {}) == ("", "")
    assert assets_of("ABCXYZ", {}) == ("", "")

"""`data-collector coverage`, `gaps`, `fill` and `verify`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.fake_api import COVERAGE, GAPS, FakeApi
from tests.cli.running import run

ROW: dict[str, Any] = COVERAGE["coverage"][0]  # type: ignore[index]


def cell(start: str, end: str, expected: int, missing: int, explained: int = 0) -> dict[str, Any]:
    return {
        "start": f"2026-01-{start}T00:00:00.000Z",
        "end": f"2026-01-{end}T00:00:00.000Z",
        "expected": expected,
        "held": expected - missing - explained,
        "explained": {"no_trades": explained} if explained else {},
        "missing": missing,
        "percent": None,
    }


def row(symbol: str, *cells: dict[str, Any]) -> dict[str, Any]:
    sums = {name: sum(each[name] for each in cells) for name in ("expected", "held", "missing")}
    explained = sum(sum(each["explained"].values()) for each in cells)
    return {
        "symbol": symbol,
        "timeframe": "1m",
        **sums,
        "percent": None,
        "explained": {"no_trades": explained},
        "cells": [*cells],
    }


def page(*rows: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"exchange": "local", "coverage": [*rows], "next_page_token": following}


def marks(line: str) -> str:
    """What is drawn, each mark once where it repeats."""
    drawn = line[14:].rpartition("  ")[0]
    return "".join(mark for at, mark in enumerate(drawn) if not at or drawn[at - 1] != mark)


def test_a_map_has_a_row_for_each_symbol_a_legend_and_totals_in_eighty_columns() -> None:
    whole = row("BTCUSDT", cell("01", "03", 2880, 0), cell("03", "05", 2880, 0, 10))
    parts = row("ETHUSDT", cell("02", "03", 1440, 100), cell("03", "05", 2880, 2000))
    none = row("LONGNAMEUSDT", cell("01", "05", 5760, 5760))
    ran = run("coverage", api=FakeApi({"GET /coverage": [page(whole, parts, none)]}))
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["SYMBOL", "TF", "2026-01-01", "2026-01-05", "DONE"]
    assert [line.split()[0] for line in lines[1:4]] == ["BTCUSDT", "ETHUSDT", "LONGNAMEUSDT"]
    assert [line.split()[-1] for line in lines[1:4]] == ["100.0%", "51.3%", "0.0%"]
    assert "█" in lines[1]
    assert "▓" in lines[1]
    assert "▒" not in lines[1]
    assert " " in lines[2][19:30]
    assert "▒" in lines[2]
    assert "░" in lines[2]
    assert set(lines[3][18:-8]) == {"·"}
    for mark, means in zip(
        "█▓▒░·", ("all held", "explained", "90%", "some", "nothing"), strict=True
    ):
        assert mark in lines[4]
        assert means in lines[4]
    assert lines[5].startswith("50.3% of 15,840 candles: ")
    assert lines[5].endswith("held, 10 explained, 7,860 missing")
    assert "data-collector fill" in lines[6]


def test_no_colour_is_needed_and_a_terminal_gets_some() -> None:
    assert "\x1b" not in run("coverage").out
    coloured = run("coverage", out_tty=True).out
    assert "\x1b[" in coloured
    assert "█" in coloured


@pytest.mark.parametrize("tty", [True, False])
def test_an_output_that_cannot_write_the_marks_gets_plain_ones(
    monkeypatch: pytest.MonkeyPatch, tty: bool
) -> None:
    monkeypatch.setattr("market_data_collector.cli.coverage._draws", lambda _: False)
    out = run("coverage", out_tty=tty).out
    assert "#" in out
    assert "=" in out
    assert not set("█▓▒░·") & set(out)


def test_what_pages_cut_is_put_together_again() -> None:
    first = page(row("BTCUSDT", cell("01", "02", 1440, 40)), following="a")
    second = page(
        row("BTCUSDT", cell("02", "03", 1440, 10, 5)), row("ETHUSDT", cell("01", "02", 1440, 0))
    )
    ran = run("coverage", "--json", api=FakeApi({"GET /coverage": [first, second]}))
    [bitcoin, ether] = ran.json["coverage"]
    assert (bitcoin["expected"], bitcoin["missing"], len(bitcoin["cells"])) == (2880, 50, 2)
    assert (bitcoin["explained"], bitcoin["percent"]) == ({"no_trades": 5}, 98.26)
    assert (ether["symbol"], ran.json["next_page_token"]) == ("ETHUSDT", None)
    assert ran.api.requests[1].url.params["page_token"] == "a"


def test_what_is_asked_is_handed_on() -> None:
    ran = run(
        *("coverage", "btcusdt", "ETHUSDT", "-t", "1m,1h"),
        *("--start", "2026-01-01", "--resolution", "day"),
    )
    assert dict(ran.api.requests[0].url.params) == {
        "symbols": "BTCUSDT,ETHUSDT",
        "timeframes": "1m,1h",
        "start": "2026-01-01T00:00:00Z",
        "resolution": "day",
    }


def test_where_nothing_is_stored_it_says_so() -> None:
    assert run("coverage", api=FakeApi({"GET /coverage": [page()]})).out == "Nothing is stored\n"
    empty = {**GAPS, "gaps": []}
    assert run("gaps", "x", "1h", api=FakeApi({"GET /coverage/gaps": [empty]})).out == "No gap\n"


def test_gaps_are_listed_with_reasons_and_evidence() -> None:
    ran = run("gaps", "btcusdt", "1h")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["FROM", "TO", "CANDLES", "REASON", "EVIDENCE"]
    assert lines[1].split() == [
        *("2026-02-03", "04:00", "2026-02-03", "10:00", "6", "exchange_outage"),
        *("asked", "4x,", "last", "2026-11-23", "12:00"),
    ]
    assert lines[2].rstrip().endswith("never asked")
    assert ran.api.requests[0].url.params["symbol"] == "BTCUSDT"


def test_every_page_of_gaps_is_one_list() -> None:
    pages = [{**GAPS, "next_page_token": "5"}, GAPS]
    ran = run("gaps", "x", "1h", "--json", api=FakeApi({"GET /coverage/gaps": pages}))
    assert len(ran.json["gaps"]) == 4


@pytest.mark.parametrize("command", ["fill", "verify"])
def test_filling_and_verifying_are_tasks(command: str) -> None:
    ran = run(command, "btcusdt", "-t", "1h", "--start", "2026-01-01", "--priority", "low")
    assert (ran.code, ran.api.requests[0].url.path.endswith(f"/coverage/{command}")) == (0, True)
    assert ran.body() == {
        "symbols": ["BTCUSDT"],
        "timeframes": ["1h"],
        "start": "2026-01-01T00:00:00Z",
        "priority": "low",
    }
    waited = run(command, "--wait")
    assert (waited.body(), "Completed" in waited.out) == ({}, True)


@pytest.mark.parametrize("command", ["fill", "verify"])
def test_selectors_are_spelt_as_the_api_spells_them(command: str) -> None:
    ran = run(command, "quote=usdt,btcusdt", "Top=20")
    assert ran.body() == {"symbols": ["quote=USDT", "BTCUSDT", "top=20"]}


def test_repairing_is_asked_for() -> None:
    assert run("verify", "--repair").body() == {"repair": True}

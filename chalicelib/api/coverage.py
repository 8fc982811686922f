"""The HTTP API of coverage: what of the candles is held, why others are not, and filling that.

Each route loads the modules of candles itself: few requests are for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import COLLECT, READ
from chalicelib.api import web
from chalicelib.api.idempotency import Body
from chalicelib.aws.calls import run
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.problems import Errors, invalid, problem
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.symbols import trading
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import Catalogue, CatalogueTable
from chalicelib.tasks.submit import submit_filling, submit_verification

if TYPE_CHECKING:
    from chalicelib.candles.coverage_pages import Cell, Row
    from chalicelib.candles.explain import Counts, Stretch
    from chalicelib.candles.explainer import Explainer

_PLACE = re.compile(rf"([0-9]{{1,15}})~({'|'.join(timeframes.LENGTH_MS)})~(.{{1,100}})")
_TIME = re.compile(r"[0-9]{1,15}")
#: Symbols that a query may name.
_MOST_SYMBOLS = 500


@web.route("GET", "/coverage", scope=READ)
def get_coverage() -> Response:
    from chalicelib.candles.coverage_pages import (
        OBJECT,
        RESOLUTIONS,
        CoverageQuery,
        Place,
        read_page,
    )

    backend = wiring.backend()
    given = web.query(
        *("symbols", "timeframes", "start", "end", "resolution", "explain"),
        *("page_size", "page_token"),
    )
    page_size = web.page_size(given, backend.settings)
    start_ms, end_ms, errors = web.time_range(given, "start", "end")
    errors += web.choice_errors(given, {"resolution": RESOLUTIONS, "explain": ("true", "false")})
    resolution = given.get("resolution", OBJECT)
    frames = _listed(given, "timeframes")
    if frames is not None and not set(frames) <= set(timeframes.LENGTH_MS):
        errors.append(problem(f"must be of {', '.join(timeframes.LENGTH_MS)}", "/timeframes"))
    errors += web.page_token_errors(given, _PLACE)
    catalogue = run(CatalogueTable(backend).read_catalogue())
    symbols = _symbols(_listed(given, "symbols"), catalogue, errors)
    if errors:
        raise invalid(errors)
    resume = None
    if token := _PLACE.fullmatch(given.get("page_token", "")):
        resume = Place(token[3], token[2], int(token[1]))
    explain = given.get("explain") != "false"
    query = CoverageQuery(symbols, frames, start_ms, end_ms, resolution, page_size, resume, explain)
    page = run(read_page(backend, _explainer(backend, catalogue), query))
    following = page.following
    token_text = following and f"{following.at_ms}~{following.timeframe}~{following.symbol}"
    return web.answer(
        200,
        {
            "exchange": backend.settings.exchange,
            "resolution": resolution,
            "coverage": [_row(row, explain) for row in page.rows],
            "next_page_token": token_text,
        },
    )


@web.route("GET", "/coverage/gaps", scope=READ)
def get_gaps() -> Response:
    from chalicelib.candles.coverage_pages import read_gaps

    backend = wiring.backend()
    given = web.query("symbol", "timeframe", "start", "end", "page_size", "page_token")
    page_size = web.page_size(given, backend.settings)
    start_ms, end_ms, errors = web.time_range(given, "start", "end")
    symbol, timeframe = given.get("symbol", ""), given.get("timeframe", "")
    if timeframe not in timeframes.LENGTH_MS:
        errors.append(problem(f"must be one of {', '.join(timeframes.LENGTH_MS)}", "/timeframe"))
    errors += web.page_token_errors(given, _TIME)
    catalogue = run(CatalogueTable(backend).read_catalogue())
    _symbols([symbol], catalogue, errors, "/symbol")
    if errors:
        raise invalid(errors)
    resume_ms = int(given["page_token"]) if "page_token" in given else None
    page = run(
        read_gaps(
            backend,
            _explainer(backend, catalogue),
            symbol,
            timeframe,
            (start_ms, end_ms),
            page_size,
            resume_ms,
        )
    )
    is_known = page.start_ms < page.end_ms
    return web.answer(
        200,
        {
            "exchange": backend.settings.exchange,
            "symbol": symbol,
            "timeframe": timeframe,
            "start": iso(page.start_ms) if is_known else None,
            "end": iso(page.end_ms) if is_known else None,
            "gaps": [_gap(*each) for each in page.stretches],
            "next_page_token": None if page.following_ms is None else str(page.following_ms),
        },
    )


@web.route("POST", "/coverage/fill", scope=COLLECT)
def fill() -> Response:
    backend, body = wiring.backend(), web.json_body()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        made = await submit_filling(backend, body, web.owner(), web.request_id(), task_id)
        return web.submitted(made, "Filling of gaps submitted")

    return web.once(backend, body, work)


@web.route("POST", "/coverage/verify", scope=COLLECT)
def verify() -> Response:
    backend, body = wiring.backend(), web.json_body()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        made = await submit_verification(backend, body, web.owner(), web.request_id(), task_id)
        return web.submitted(made, "Verification submitted")

    return web.once(backend, body, work)


def _listed(given: dict[str, str], name: str) -> list[str] | None:
    """The entries of a parameter that is a list, each once; None: it was not given."""
    if name not in given:
        return None
    return [*dict.fromkeys(given[name].split(","))]


def _symbols(
    named: list[str] | None, catalogue: Catalogue | None, errors: Errors, pointer: str = "/symbols"
) -> list[str]:
    """The symbols that are asked about, by name: where none are named, those that trade."""
    if named is None:
        return [*trading(catalogue.symbols)] if catalogue else []
    if not named or len(named) > _MOST_SYMBOLS:
        errors.append(problem(f"must name 1 to {_MOST_SYMBOLS} symbols", pointer))
    for symbol in named:
        if not SYMBOL_PATTERN.fullmatch(symbol):
            detail = f"{symbol[:100]!r} is not a symbol; one reads like BTCUSDT"
            errors.append(problem(detail, pointer))
        elif catalogue is not None and symbol not in catalogue.known:
            detail = f"unknown symbol {symbol} (GET /tasks/stats lists the known ones)"
            errors.append(problem(detail, pointer))
    return sorted(named)


def _explainer(backend: Backend, catalogue: Catalogue | None) -> Explainer:
    from chalicelib.aws.thread_pool import readers
    from chalicelib.candles.explainer import Explainer

    return Explainer(
        backend,
        readers().together,
        catalogue.symbols if catalogue else {},
        catalogue.delisted if catalogue else {},
    )


def _row(row: Row, explain: bool) -> dict[str, Any]:
    cells = row.cells
    return {
        "symbol": row.symbol,
        "timeframe": row.timeframe,
        "start": iso(cells[0].start_ms) if cells else None,
        "end": iso(cells[-1].end_ms) if cells else None,
        **_counts(row.counts, explain),
        "cells": [_cell(cell, explain) for cell in cells],
    }


def _cell(cell: Cell, explain: bool) -> dict[str, Any]:
    return {"start": iso(cell.start_ms), "end": iso(cell.end_ms), **_counts(cell.counts, explain)}


def _counts(counts: Counts, explain: bool) -> dict[str, Any]:
    return {
        "expected": counts.expected,
        "held": counts.held,
        "explained": dict(counts.explained),
        "missing": counts.missing,
        "percent": counts.percent,
        **({} if explain else {"uncertain": counts.uncertain}),
    }


def _gap(stretch: Stretch, candles: int) -> dict[str, Any]:
    gap = stretch.gap
    evidence = gap and {
        "first_asked": iso(gap.first_ms),
        "last_asked": iso(gap.last_ms),
        "times_asked": gap.asked,
    }
    return {
        "start": iso(stretch.start_ms),
        "end": iso(stretch.end_ms),
        "candles": candles,
        "reason": stretch.reason,
        "evidence": evidence,
    }

"""The HTTP API of stored candles: their rows in pages, and the files that they are in.

Each route loads the candles' modules itself: few requests are for them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import READ
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import SymbolNotFound
from chalicelib.core.problems import Errors, invalid, problem
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.times import DAY, FOREVER_MS, iso
from chalicelib.core.version import VERSION
from chalicelib.exchange.catalogue_table import CatalogueTable

if TYPE_CHECKING:
    from chalicelib.candles.pages import CandlePage, CandleQuery, PageObjects

_PAGE_TOKEN = re.compile(r"[0-9]{1,15}-[0-9]{1,15}(-[0-9]{1,15})?")
_FILES_TOKEN = re.compile(r"[0-9]{1,5}-[0-9]{1,15}")
#: No page goes on behind it: calendars end soon after.
_LATEST_MS = FOREVER_MS - 100 * DAY
#: The first part of a page's version: how many objects it was made of.
_TAG = re.compile(r'"([0-9]{1,5})-[0-9a-f]{32}"')
_CHOICES = {"fill": ("none", "previous"), "order": ("asc", "desc")}
_SEPARATORS = re.compile(r"[\s/_:-]")


@web.route("GET", "/candles", scope=READ)
def get_candles() -> Response:
    from chalicelib.candles.formats import FORMATS
    from chalicelib.candles.objects import HeldObjects
    from chalicelib.candles.pages import objects_for, read_page

    backend = wiring.backend()
    names = ("symbol", "timeframe", "start", "end", "limit", "page_token")
    given = web.query(*names, "format", "fill", "order")
    query = _candle_query(given)
    form = FORMATS[given.get("format", "json")]
    held = HeldObjects(backend)
    objects = run(objects_for(held, query))
    if not objects.ordered:
        _must_be_known(backend, [query.symbol])
    headers: dict[str, Any] = {
        "Content-Type": form.content_type,
        "Cache-Control": "private, no-cache",
    }
    asked = _asked(backend, given, query)
    for tag, used in _tags_sent():
        if tag == _tag(asked, objects, used):
            return Response("", {**headers, "ETag": f"W/{tag}"}, 304)
    page = run(read_page(held, query, objects, backend.now_ms()))
    headers["ETag"] = f"W/{_tag(asked, objects, page.used)}"
    token = None
    if page.following:
        token = "-".join(str(part) for part in page.following if part is not None)
        following = urlencode({**given, "page_token": token})
        headers["Link"] = f'<?{following}>; rel="next"'
    if form.write is None:
        view = _view(backend, query, page, token)
        if not objects.ordered and not query.resume:
            what = f"nothing is stored of {query.symbol} {query.timeframe} in this range"
            view["message"] = f"{what}; POST /start collects it"
        return web.answer(200, view, headers)
    body = form.write(page, query.fill)
    return (web.Bytes if isinstance(body, bytes) else Response)(body, headers, 200)


@web.route("GET", "/candles/files", scope=READ)
def get_candle_files() -> Response:
    from chalicelib.aws.thread_pool import readers
    from chalicelib.candles.files import list_files

    backend = wiring.backend()
    given = web.query("symbol", "timeframe", "start", "end", "page_size", "page_token")
    page_size = web.page_size(given, backend.settings)
    symbols = tuple(dict.fromkeys(filter(None, given.get("symbol", "").split(","))))
    start_ms, end_ms, errors = _range_of(given)
    at, from_ms, *_ = _token_of(given, _FILES_TOKEN, errors) or (0, 0)
    if at and at >= len(symbols):
        errors.append(problem("must be a next_page_token of the same query", "/page_token"))
    if errors:
        raise invalid(errors)
    for symbol in symbols:
        _must_be_symbol(symbol)
    between_ms, together = (start_ms, end_ms), readers().together
    resume = at, from_ms
    found = run(
        list_files(backend, symbols, given["timeframe"], between_ms, page_size, together, resume)
    )
    if found.without:
        _must_be_known(backend, found.without)
    following = None if found.following is None else "-".join(map(str, found.following))
    return web.answer(200, {"files": found.files, "next_page_token": following})


def _candle_query(given: dict[str, str]) -> CandleQuery:
    """Raises InvalidRequest, and SymbolNotFound for what can be no symbol."""
    from chalicelib.candles.formats import FORMATS, USUAL_ROWS
    from chalicelib.candles.pages import CandleQuery, Resume

    start_ms, end_ms, errors = _range_of(given)
    errors += web.choice_errors(given, {"format": tuple(FORMATS), **_CHOICES})
    token = _token_of(given, _PAGE_TOKEN, errors)
    if errors:
        raise invalid(errors)
    most = FORMATS[given.get("format", "json")].most_rows
    limit = web.count(given, "limit", USUAL_ROWS, most)
    _must_be_symbol(given["symbol"])
    resume = None
    if token:
        resume = Resume(token[0], token[1], token[2] if len(token) > 2 else None)
    return CandleQuery(
        given["symbol"],
        given["timeframe"],
        start_ms,
        end_ms,
        limit,
        newest_first=given.get("order") == "desc",
        fill=given.get("fill") == "previous",
        resume=resume,
    )


def _range_of(given: dict[str, str]) -> tuple[int | None, int | None, Errors]:
    """`start` and `end` in epoch ms, and what is wrong with them, with symbol and timeframe."""
    start_ms, end_ms, errors = web.time_range(given, "start", "end")
    if not given.get("symbol", "").strip(","):
        errors.append(problem("must name a symbol, such as BTCUSDT", "/symbol"))
    if given.get("timeframe") not in timeframes.LENGTH_MS:
        among = ", ".join(timeframes.LENGTH_MS)
        errors.append(problem(f"must be one of {among}", "/timeframe"))
    return start_ms, end_ms, errors


def _token_of(given: dict[str, str], form: re.Pattern[str], errors: Errors) -> list[int]:
    """The numbers in a page_token; [] where there is none, or, added to `errors`, a wrong one."""
    wrong = web.page_token_errors(given, form)
    parts = [int(part) for part in given.get("page_token", "").split("-") if part and not wrong]
    if any(part > _LATEST_MS for part in parts):
        wrong = [problem("must be a next_page_token", "/page_token")]
    errors += wrong
    return [] if wrong else parts


def _must_be_symbol(symbol: str) -> None:
    """Raises SymbolNotFound for what can be none; nothing is asked."""
    if not SYMBOL_PATTERN.fullmatch(symbol):
        raise SymbolNotFound(f"{symbol[:100]!r} is not a symbol; one reads like BTCUSDT")


def _must_be_known(backend: Backend, symbols: Sequence[str]) -> None:
    """Raises SymbolNotFound for one that is not in the catalogue."""
    catalogue = run(CatalogueTable(backend).read_catalogue())
    known = catalogue.known if catalogue else {}
    for symbol in symbols:
        if symbol not in known:
            near = _SEPARATORS.sub("", symbol).upper()
            hint = f"; did you mean {near}?" if near in known else ""
            raise SymbolNotFound(
                f"unknown symbol {symbol}{hint} (GET /tasks/stats lists the known ones)"
            )


def _view(
    backend: Backend, query: CandleQuery, page: CandlePage, token: str | None
) -> dict[str, Any]:
    from chalicelib.candles.formats import as_objects

    return {
        "exchange": backend.settings.exchange,
        "symbol": query.symbol,
        "timeframe": query.timeframe,
        "candles": as_objects(page, query.fill),
        "gaps": [{"start": iso(gap.start_ms), "end": iso(gap.end_ms)} for gap in page.gaps],
        "next_page_token": token,
        "message": None,
    }


def _tags_sent() -> Iterator[tuple[str, int]]:
    """The versions that the caller has: each tag, and how many objects it was made of."""
    for found in _TAG.finditer(web.header("if-none-match")):
        yield found[0], int(found[1])


def _asked(backend: Backend, given: dict[str, str], query: CandleQuery) -> list[object]:
    """What an answer depends on besides the objects."""
    # What has not closed yet is no gap, until it has closed.
    closed_ms = timeframes.floor(query.timeframe, backend.now_ms())
    until_ms = None if query.end_ms is None else min(query.end_ms, closed_ms)
    return [VERSION, backend.settings.exchange, sorted(given.items()), until_ms]


def _tag(asked: list[object], objects: PageObjects, used: int) -> str:
    """The version of a page that was made of so many of the objects, 0: all.

    Those behind them do not count: the pages of the past keep their versions while candles are
    collected.
    """
    chosen = [*objects.ordered[: used or None], *objects.anchor]
    versions = [(each.key, each.etag) for each in chosen]
    text = json.dumps([asked, versions])
    return f'"{used}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

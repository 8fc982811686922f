"""Asking the exchange for its symbols and for their prices.

A list is believed as far as it can be read. A symbol whose entry cannot be read keeps what was
known of it; one that is missing is delisted, and stays known. A list that misses so many symbols
that it must be the exchange's trouble is refused: it is kept aside, and the old one stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CallFailed,
    CatalogueRefused,
    ConditionFailed,
    ExchangeDrifted,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
    NotAsked,
)
from chalicelib.core.logs import log
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.catalogue_table import Asked, Catalogue, CatalogueTable, RefusedList
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.prices import kept
from chalicelib.exchange.rows import Listing
from chalicelib.exchange.share import DEFAULT_WEIGHT_LIMIT, weight_limits
from chalicelib.exchange.volume_table import CLAIM_MS, VolumeTable
from chalicelib.exchange.worker import Worker

#: A list that misses one of so many known symbols, or more, is refused. An exchange delists a few
#: symbols a day; in trouble it answers an empty list, or a part of it, which is often one half.
_MISSING_ONE_IN = 2
#: Delisted symbols that are remembered, the latest ones. With as many listed ones, the item takes
#: about 150 KB of the 400 KB that DynamoDB allows.
MOST_DELISTED = 5_000
#: Volumes of 24 hours say the same for about so long.
VOLUMES_AGE_MS = 3_600_000
#: How often other refreshes may be quicker than this one, each in the time of one write.
_RACES = 8


@dataclass(frozen=True)
class Refreshed:
    """`symbols`: symbol -> status; `added`: how many of them were not listed before."""

    symbols: dict[str, str]
    added: int


async def refresh_catalogue(
    worker: Worker, asked: Asked | None = None, accept_refused: bool = False
) -> Refreshed:
    """Load the exchange's symbols into the Market table.

    `asked`: who asked for it, for the audit trail; None: the system itself. `accept_refused`: the
    list that was refused last is right, so what it misses may be missing. Raises CatalogueRefused
    with the old list still there, and ExchangeError: NotAsked while nobody may ask.
    """
    table = CatalogueTable(worker)
    asked_ms = worker.now_ms()
    try:
        listing = await worker.exchange.listing(_permit(worker))
    except ExchangeThrottled as error:
        await Ledger(worker).throttle(error, worker.now_ms())
        raise
    before = seen = await table.read_catalogue()
    for _ in range(_RACES):
        if seen is not None and seen.refreshed_at > asked_ms:
            return _refreshed(before, seen)  # the exchange was asked again meanwhile
        accepted = await table.read_refused() if accept_refused else None
        missing = refusal(seen, accepted, listing)
        if missing is not None:
            known, stays = (len(seen.symbols), seen.refreshed_at) if seen else (0, 0)
            refused = RefusedList(listing.symbols, known, missing, asked_ms, stays, asked)
            await _refuse(table, refused)
        new = renewed(seen, listing, asked_ms, asked)
        try:
            await table.replace_catalogue(seen, new)
        except ConditionFailed:
            seen = await table.read_catalogue()
            continue
        return _refreshed(before, new)
    raise CallFailed("dynamodb", "PutItem", "Contention", "the catalogue")


async def refresh_catalogue_if_due(worker: Worker) -> Refreshed | None:
    """Refresh the catalogue where it is older than the setting says; None where it is not, or
    where another refresh was begun less than a minute ago. Raises as `refresh_catalogue`."""
    table, now_ms = CatalogueTable(worker), worker.now_ms()
    catalogue = await table.read_catalogue()
    longest_ms = worker.settings.catalogue_refresh_seconds * 1000
    if catalogue is not None and now_ms - catalogue.refreshed_at < longest_ms:
        return None
    return await refresh_catalogue(worker) if await table.claim_refresh(now_ms) else None


def renewed(
    before: Catalogue | None, listing: Listing, now_ms: int, asked: Asked | None
) -> Catalogue:
    """The catalogue after a list of the exchange. Pure.

    An entry without a name may be that of any symbol that is missing, unless it was there before
    that one was missing. As long as there is such an entry, nothing is delisted.
    """
    before = before or Catalogue({}, DEFAULT_WEIGHT_LIMIT, 0)
    unnamed = listing.unusable.count("")
    missing = before.symbols.keys() - _names_in(listing)
    unread = before.symbols if unnamed > before.unnamed else listing.unusable
    kept = {name: before.symbols[name] for name in unread if name in before.symbols}
    symbols = {**kept, **listing.symbols}
    gone = dict.fromkeys(sorted(before.symbols.keys() - symbols.keys()), now_ms)
    delisted = {name: at for name, at in before.delisted.items() if name not in symbols} | gone
    latest = sorted(delisted, key=delisted.__getitem__)[-MOST_DELISTED:]
    assets = {**before.assets, **listing.assets}
    return Catalogue(
        symbols=symbols,
        weight_limit=listing.weight_limit or before.weight_limit,
        refreshed_at=now_ms,
        asked=asked,
        delisted={name: delisted[name] for name in latest},
        unnamed=min(unnamed, before.unnamed) if missing else unnamed,
        assets={name: assets[name] for name in (*symbols, *latest) if name in assets},
    )


def refusal(
    before: Catalogue | None, accepted: RefusedList | None, listing: Listing
) -> list[str] | None:
    """The known symbols that a list misses, where it cannot be all that is listed; else None. Pure.

    `accepted`: the refused list that a person says is right. One that was refused before the
    catalogue was refreshed says nothing of what is missing now. An empty list is never right.
    """
    known = before.symbols if before else {}
    expected = known
    if accepted and accepted.instead_of == (before.refreshed_at if before else 0):
        expected = accepted.symbols or known
    named = _names_in(listing)
    missing = len(expected.keys() - named)
    if listing.symbols and (not missing or missing * _MISSING_ONE_IN < len(expected)):
        return None
    return sorted(known.keys() - named)


async def _refuse(table: CatalogueTable, refused: RefusedList) -> None:
    """Keep a list aside. Raises CatalogueRefused.

    Of those refused since the catalogue was refreshed, the longest is kept: whoever accepts it must
    not accept a shorter one that came since they looked.
    """
    kept_aside = await table.read_refused()
    if (
        kept_aside is None
        or kept_aside.instead_of != refused.instead_of
        or len(kept_aside.symbols) < len(refused.symbols)
    ):
        await table.write_refused(refused)
    metrics.count("CatalogueRefused")
    detail = (
        f"the exchange lists {len(refused.symbols)} symbols, and {len(refused.missing)} of "
        f"{refused.known} known ones are missing"
    )
    log("catalogue_refused", level="error", error=detail)
    remedy = '. If the new one is right, POST /refresh-symbols with {"accept_refused": true}'
    raise CatalogueRefused(f"{detail}; the old list stays{remedy if refused.symbols else ''}")


def _names_in(listing: Listing) -> set[str]:
    """The symbols that a list names, whether or not their status can be read."""
    return {*listing.symbols, *listing.unusable}


def _refreshed(before: Catalogue | None, after: Catalogue) -> Refreshed:
    known = before.symbols if before else {}
    return Refreshed(after.symbols, len(after.symbols.keys() - known.keys()))


async def refresh_prices(worker: Worker) -> int:
    """Store every listed symbol's price in one packed item; returns how many are new.

    A symbol without a usable price in this answer keeps the last one, with its own time, for a day.
    The exchange still quotes delisted symbols: those that the catalogue does not list are left out.
    """
    table = CatalogueTable(worker)
    try:
        (prices, _), server_ms = await worker.exchange.prices(_permit(worker))
    except ExchangeThrottled as error:
        await Ledger(worker).throttle(error, worker.now_ms())
        raise
    catalogue = await table.read_catalogue()
    before, now_ms = await table.read_prices(), worker.now_ms()
    older = kept(before, now_ms)
    if catalogue is not None:
        prices = {name: prices[name] for name in prices if name in catalogue.symbols}
        older = {name: older[name] for name in older if name in catalogue.symbols}
    if prices:
        # A server's clock that is ahead must not keep its prices fresh.
        await table.write_prices(prices, min(server_ms, now_ms), older)
    elif before is not None:
        await table.write_prices({}, before.priced_at, older)
    return len(prices)


async def recent_volumes(worker: Worker) -> Mapping[str, float]:
    """symbol -> quote volume of 24 hours, at most an hour old where the exchange can say it.

    It is asked once an hour, however many ask at the same time. Where it cannot say, older volumes
    do; so they do for one symbol whose volume cannot be read. Raises ExchangeError: NotAsked also
    where somebody else is just asking, and nothing is stored yet.
    """
    table, now_ms = VolumeTable(worker), worker.now_ms()
    stored = await table.read()
    if now_ms - stored.asked_at < VOLUMES_AGE_MS:
        return stored.volumes
    if not await table.claim(now_ms):
        if not stored.volumes:
            raise NotAsked("the volumes are just being asked for", now_ms + CLAIM_MS)
        return stored.volumes
    try:
        volumes, unusable = await worker.exchange.volumes(_permit(worker))
        if not volumes:
            raise ExchangeDrifted("the exchange's answer has no volume that can be read")
    except ExchangeThrottled as error:
        await Ledger(worker).throttle(error, worker.now_ms())
        raise
    except (ExchangeUnavailable, ExchangeRefused) as error:
        if not stored.volumes:
            raise
        log("volumes_not_renewed", level="warning", error=error.detail)
        return stored.volumes
    older = {name: stored.volumes[name] for name in unusable if name in stored.volumes}
    await table.write({**older, **volumes}, now_ms)
    return {**older, **volumes}


def _permit(backend: Backend) -> Permit:
    """Takes weight for each request, retries included, also of what is kept for such requests."""

    async def permit(weight: int) -> None:
        catalogue = await CatalogueTable(backend).read_catalogue()
        limits = weight_limits(catalogue, backend.settings)
        wanted = Wanted(weight, high=True)
        taken = await Ledger(backend).take_weight(wanted, limits, backend.now_ms())
        if not taken.weight:
            raise NotAsked("waiting for the exchange", taken.until_ms)

    return permit

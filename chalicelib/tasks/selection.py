"""Which symbols a request selects, as far as what is stored says it."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.core.backend import Backend
from chalicelib.core.symbols import trading
from chalicelib.exchange.catalogue_table import Catalogue, CatalogueTable
from chalicelib.exchange.volume_table import VolumeTable
from chalicelib.work.selector import Market, is_plain, needs_volumes, select


async def selected(backend: Backend, symbols: tuple[str, ...] | None) -> tuple[str, ...]:
    """The symbols of a request's `symbols`: none before the catalogue was loaded, except names."""
    if symbols is not None and is_plain(symbols):
        return symbols
    catalogue = await CatalogueTable(backend).read_catalogue()
    volumes: Mapping[str, float] = {}
    if symbols is not None and needs_volumes(symbols):
        volumes = (await VolumeTable(backend).read()).volumes
    return () if catalogue is None else resolved(symbols, catalogue, volumes)


def resolved(
    symbols: tuple[str, ...] | None, catalogue: Catalogue, volumes: Mapping[str, float]
) -> tuple[str, ...]:
    """The same, of what is known. Pure."""
    if symbols is None:
        return trading(catalogue.symbols)
    return select(symbols, Market(catalogue.known, catalogue.assets, volumes))

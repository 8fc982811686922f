"""What the Market table holds of the exchange is replaced only as it was seen."""

from __future__ import annotations

import pytest

from chalicelib.aws.stream import Change
from chalicelib.core.errors import ConditionFailed, ExchangeRootChanged
from chalicelib.core.symbols import TRADING
from chalicelib.exchange.catalogue_table import (
    Catalogue,
    CatalogueChange,
    CatalogueTable,
    Price,
    catalogue_change,
    changed_prices,
    packed,
    refused_change,
)
from tests.doubles.clock import NOW
from tests.doubles.settings import at_another_root

NEW = Catalogue({"AUSDT": TRADING}, 6000, NOW, assets={"AUSDT": ("A", "USDT")})


@pytest.fixture
def table(backend) -> CatalogueTable:
    return CatalogueTable(backend)


def test_a_catalogue_is_replaced_by_who_has_seen_it(run, table) -> None:
    assert run(table.read_catalogue()) is run(table.read_own_catalogue()) is None
    run(table.replace_catalogue(None, NEW))
    seen = run(table.read_catalogue())
    for stale in (None, seen._replace(refreshed_at=NOW - 1)):
        with pytest.raises(ConditionFailed):
            run(table.replace_catalogue(stale, NEW._replace(refreshed_at=NOW + 5)))
        assert run(table.read_catalogue()) == seen
    run(table.replace_catalogue(seen, NEW._replace(refreshed_at=NOW + 5)))
    assert run(table.read_catalogue()).refreshed_at == NOW + 5


def test_a_catalogue_of_another_root_is_not_ours(run, backend, table) -> None:
    run(table.replace_catalogue(None, NEW))
    assert run(table.read_own_catalogue()).symbols == NEW.symbols
    with pytest.raises(ExchangeRootChanged):
        run(CatalogueTable(at_another_root(backend)).read_own_catalogue())


def test_one_refresh_a_minute_is_claimed(run, table) -> None:
    claimed = [run(table.claim_refresh(NOW + later)) for later in (0, 1, 59_999, 60_000, 60_001)]
    assert claimed == [True, False, False, True, False]


@pytest.mark.parametrize("kind", ["CATALOGUE", "REFUSED", "PRICES", "REFRESH"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_change_is_of_one_kind_of_item_and_of_none_where_it_is_gone(kind, gone) -> None:
    symbols, refused = packed({"AUSDT": TRADING}), {"known": 2, "refused_at": 1, "instead_of": 0}
    item = {
        "pk": f"{kind}#binance",
        "sk": kind,
        "symbols": symbols,
        "refreshed_at": NOW,
        "missing": packed(["B"]),
        "prices": packed({"AUSDT": "1.5"}),
        "priced_at": NOW,
        **refused,
    }
    change = Change("1", NOW, item if gone else {}, {} if gone else item, False)
    made = catalogue_change(change), refused_change(change), changed_prices(change)
    named = ("CATALOGUE", "REFUSED", "PRICES")
    assert [each is not None for each in made] == [kind == one and not gone for one in named]
    if made[0]:
        assert made[0] == CatalogueChange("binance", {}, {"AUSDT": TRADING}, None, NOW)
    if made[1]:
        assert (made[1][0], made[1][1], made[1][2].missing) == ("binance", None, ["B"])
    if made[2]:
        assert made[2].prices == {"AUSDT": Price("1.5", NOW)}


def test_a_catalogue_that_an_older_release_stored_knows_no_assets(
    run, table, aws, settings
) -> None:
    run(table.replace_catalogue(None, NEW))
    run(
        aws(
            "dynamodb",
            "UpdateItem",
            TableName=settings.market_table,
            Key=table._key("CATALOGUE"),
            UpdateExpression="REMOVE assets",
        )
    )
    assert run(table.read_catalogue()).assets == {}

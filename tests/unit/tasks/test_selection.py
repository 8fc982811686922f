"""Which symbols a request selects, and what is read for it."""

from __future__ import annotations

import pytest

from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks.selection import selected

NAMES = ("ETHUSDT", "BTCUSDT")


def test_names_are_what_they_are_with_nothing_read(run, backend, aws) -> None:
    assert run(selected(backend, NAMES)) == NAMES
    assert not aws.counts


@pytest.mark.parametrize("symbols", [None, ("*USDT",)])
def test_what_trades_is_unknown_before_the_catalogue_is(run, backend, symbols) -> None:
    assert run(selected(backend, symbols)) == ()


@pytest.mark.parametrize(("symbols", "reads"), [(None, 1), (("BTC*",), 1), (("top=1",), 2)])
def test_volumes_are_read_where_they_select(run, backend, worker, aws, symbols, reads) -> None:
    run(refresh_catalogue(worker))
    aws.counts.clear()
    run(selected(backend, symbols))
    assert sum(aws.counts.values()) == reads

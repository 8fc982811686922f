"""The examples in docstrings and in docs/PYTHON.md run, against a served collector."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import market_data_collector
from infra.package import ROOT
from market_data_collector import AsyncClient, Candles, Client
from market_data_collector import client as client_module
from market_data_collector.collecting import Collecting
from market_data_collector.jobs import JobOperations
from market_data_collector.managing import Managing
from market_data_collector.reading import Reading
from tests.cli.fake_api import serve
from tests.client.collector import Collector

CLASSES = (Candles, Collecting, Reading, Managing, JobOperations, AsyncClient)
PAGE = (ROOT / "docs" / "PYTHON.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def documented() -> Iterator[tuple[str, str]]:
    yield "client", inspect.getdoc(client_module) or ""
    for owner in CLASSES:
        yield owner.__name__, inspect.getdoc(owner) or ""
        for name, member in vars(owner).items():
            if not name.startswith("_"):
                yield f"{owner.__name__}.{name}", inspect.cleandoc(member.__doc__ or "")


EXAMPLES = {name: text for name, text in documented() if ">>>" in text}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Found by `Client()` as a running collector is."""
    with serve(Collector(), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("DATA_COLLECTOR_URL", url)
        yield url
        server.shutdown()
        thread.join()


@pytest.fixture
def names(served: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an example may use without importing it. Clients that it leaves open are closed."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    made: list[Client] = []

    def new(*args: Any, **options: Any) -> Client:
        made.append(Client(*args, **options))
        return made[-1]

    return {"Client": new, "AsyncClient": AsyncClient, "asyncio": asyncio}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name: str, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], names, name, None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=said.append).failed == 0, "".join(said)


def test_every_class_with_operations_has_examples() -> None:
    assert {name.partition(".")[0] for name in EXAMPLES} == {
        "client",
        *(owner.__name__ for owner in CLASSES),
    }


def test_every_public_method_says_what_it_does() -> None:
    for owner in CLASSES:
        for name, member in vars(owner).items():
            assert name.startswith("_") or member.__doc__ or name == "aclose", (owner, name)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_of_the_page_runs(block: str, names: dict[str, Any], tmp_path: Path) -> None:
    exec(compile(block, "docs/PYTHON.md", "exec"), {"__name__": "example"})
    if "savefig" in block:
        [image] = tmp_path.glob("*.png")
        assert image.read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_plot_that_it_draws() -> None:
    [image] = re.findall(r"!\[.*?\]\((images/[\w-]+\.png)\)", PAGE)
    assert f'savefig("{Path(image).name}"' in PAGE
    assert (ROOT / "docs" / image).read_bytes().startswith(b"\x89PNG")


def test_the_package_needs_neither_pandas_nor_polars() -> None:
    for name in market_data_collector.__all__:
        assert getattr(market_data_collector, name) is not None
    assert sys.modules["market_data_collector"].__file__

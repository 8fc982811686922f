"""The packaged application in the embedded cloud, behind the laptop's gateway, and a browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from infra.package import ROOT
from local.first_key import admin_key
from local.ports import free_port
from local.processes import start, stop
from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.waiting import ended, until
from tests.extra.console.browser import Console, chromium

#: Held of these before a page is opened.
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SETTINGS = {"RETENTION_SECONDS": "3600", "AUDIT_RETENTION_DAYS": "30"}


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), SETTINGS) as cloud:
        with Client(cloud.api_url) as api:
            ended(api, api.refresh_symbols().task_id)
            task = ended(api, api.start(SYMBOLS).task_id)
            assert task["status"] == "completed", task
        yield cloud


@pytest.fixture(scope="session")
def origin(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the gateway has the console and the API."""
    port = free_port()
    addresses = ["--api", cloud.api_url, "--sockets", cloud.ws_url]
    command = [sys.executable, "-m", "local.gateway", "--port", str(port), *addresses]
    log = tmp_path_factory.mktemp("gateway") / "gateway.log"
    process = start(command, dict(os.environ), ROOT, log)
    until(lambda: _listens(port), bool)
    yield f"http://127.0.0.1:{port}"
    stop(process)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def api(cloud: Cloud) -> Iterator[Client]:
    with Client(cloud.api_url) as api:
        yield api


@pytest.fixture
def reader(cloud: Cloud) -> Iterator[str]:
    """A key that may only read; meanwhile the stack asks for keys."""
    with cloud.configured("APIHandler", AUTHENTICATION="keys"):
        admin = admin_key(cloud.account, "keys", cloud.outputs, known=None)
        until(lambda: _asks_for_keys(cloud), bool)
        with Client(cloud.api_url, key=admin) as api:
            key: str = api.create_key("reader", ["read"])["key"]
        yield key
    until(lambda: not _asks_for_keys(cloud), bool)


def _asks_for_keys(cloud: Cloud) -> bool:
    with Client(cloud.api_url) as api:
        try:
            api.status()
        except Rejected as refused:
            return refused.reason == "KEY_REQUIRED"
    return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def console(browser: Any, cloud: Cloud, origin: str) -> Iterator[Console]:
    """Fails the test where a page complains, or asks anybody but its own origin."""
    sockets = cloud.ws_url.split("/_aws", 1)[0]
    console = Console(browser, origin, sockets)
    yield console
    console.close()
    assert not console.unexpected()

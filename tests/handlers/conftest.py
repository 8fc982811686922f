"""The Chalice application over the simulated AWS, called as API Gateway calls it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from chalice.test import Client

from chalicelib import wiring
from chalicelib.access.caller import Caller
from chalicelib.access.keys import create_key
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from tests.doubles.aws import Aws

#: As API Gateway hands it on, without the stage.
PREFIX = "/v1/data-collector"


def reader(owner: str) -> Caller:
    return Caller(owner, frozenset({"read", "collect"}))


@dataclass
class Http:
    """`key`: what the requests bring, unless they bring another one."""

    client: Client
    key: str | None = None

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """One request; `body` may be bytes, sent as they are, or anything that JSON holds."""
        if body is None:
            content = b""
        elif isinstance(body, bytes):
            content = body
        else:
            content = json.dumps(body).encode()
        given = {"Content-Type": "application/json"}
        if self.key is not None:
            given["Authorization"] = f"Bearer {self.key}"
        given |= headers or {}
        return self.client.http.request(method, PREFIX + path, given, content)

    def page(self, path: str, headers: dict[str, str] | None = None) -> Any:
        """GET of what is no part of the API: pages and their files."""
        return self.client.http.request("GET", path, headers or {}, b"")


@pytest.fixture
def http(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(wiring, "backend", lambda: backend)
    import app

    run(
        CatalogueTable(backend).write_catalogue(
            {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}, 6000, backend.now_ms()
        )
    )
    with Client(app.app) as client:
        yield Http(client)


@pytest.fixture
def stream(aws: Aws, backend: Backend) -> Callable[[], None]:
    """Write the audit trail of all changes of tasks."""
    return lambda: run(record_task_changes(backend, aws.stream_event("tasks")["Records"]))


@pytest.fixture
def keyed(http: Http, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The application with AUTHENTICATION=keys."""
    settings = dataclasses.replace(backend.settings, authentication="keys")
    asking = dataclasses.replace(backend, settings=settings)
    monkeypatch.setattr(wiring, "backend", lambda: asking)
    return asking


@pytest.fixture
def new_key(keyed: Backend) -> Callable[..., str]:
    """Make a key: owner, scopes; its text."""

    def make(owner: str, *scopes: str, **more: Any) -> str:
        body = {"owner": owner, "scopes": list(scopes), **more}
        return str(run(create_key(keyed, body, "deployer"))["key"])

    return make

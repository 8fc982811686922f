"""The Chalice application over the simulated AWS, called as API Gateway calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from chalice.test import Client

from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.exchange.catalogue_table import CatalogueTable

#: As API Gateway hands it on, without the stage.
PREFIX = "/v1/data-collector"


@dataclass
class Http:
    client: Client

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
        given = {"Content-Type": "application/json", **(headers or {})}
        return self.client.http.request(method, PREFIX + path, given, content)


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

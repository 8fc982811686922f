"""A whole stack that asks for keys, and its admin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.first_key import first_admin_key
from market_data_collector.cli.api import Api
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.waiting import ended


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    settings = {"AUTHENTICATION": "keys", "RETENTION_SECONDS": "3600"}
    with running_cloud(tmp_path_factory.mktemp("cloud"), settings) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def admin(cloud: Cloud) -> str:
    """An admin's key; the stack knows its symbols."""
    key = first_admin_key(cloud.account, "keys", cloud.outputs)
    assert key
    with Api(cloud.api_url, key=key) as api:
        ended(api, api.refresh_symbols()["task_id"])
    return key

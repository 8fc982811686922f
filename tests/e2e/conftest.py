"""A whole stack for the end-to-end tests: embedded cloud, exchange, packaged application.

Nothing is skipped: what is missing is installed or built, and what fails, fails the tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from market_data_collector.client import Client
from tests.doubles.receiver import Receiver, receiving
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.waiting import ended

#: A finished task stays readable for as long as a slow test session needs it.
SETTINGS = {
    "RETENTION_SECONDS": "3600",
    # So many days does the first export of the audit trail look back, one request each.
    "AUDIT_RETENTION_DAYS": "30",
}


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks on this machine, which the stack is allowed to reach."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Cloud]:
    settings = {**SETTINGS, "WEBHOOK_ALLOWED_HOSTS": f"127.0.0.1:{receiver.port}"}
    with running_cloud(tmp_path_factory.mktemp("cloud"), settings) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def knowing(cloud: Cloud) -> Cloud:
    """The stack, once it knows its symbols."""
    with Client(cloud.api_url) as api:
        ended(api, api.refresh_symbols().task_id)
    return cloud


@pytest.fixture
def api(knowing: Cloud) -> Iterator[Client]:
    """A client of a stack that knows its symbols."""
    with Client(knowing.api_url) as api:
        yield api

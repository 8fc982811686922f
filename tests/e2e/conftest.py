"""A whole stack for the end-to-end tests: embedded cloud, exchange, packaged application.

Nothing is skipped: what is missing is installed or built, and what fails, fails the tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Cloud, running_cloud

#: A finished task stays readable for as long as a slow test session needs it.
SETTINGS = {
    "RETENTION_SECONDS": "3600",
}


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), SETTINGS) as cloud:
        yield cloud

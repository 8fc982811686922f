"""The README's first collection and its schedule, run line by line on the packaged application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from market_data_collector.cli.api import Api
from tests.e2e.conftest import Cloud
from tests.e2e.shell import shell
from tests.e2e.waiting import ended
from tests.unit.docs.pages import blocks, commands, text_of

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LINES = [
    line
    for block in blocks(text_of("README.md"), "sh")
    for line in commands(block)
    if line.startswith(("curl ", ".venv/bin/data-collector "))
]


@pytest.fixture
def api(knowing: Cloud) -> Iterator[Api]:
    """A client of a stack that knows its symbols; the README's schedule is deleted."""
    with Api(knowing.api_url) as api:
        yield api
        for schedule in api.schedules()["schedules"]:
            if schedule["name"] == "mornings":
                api.delete_schedule(schedule["schedule_id"])


def test_every_line_of_the_readme_does_what_it_says(cloud: Cloud, api: Api) -> None:
    printed = []
    task_id = ""
    for line in LINES:
        printed.append(shell(_UUID.sub(task_id, line), cloud))
        task_id = task_id or json.loads(printed[0])["task_id"]
    assert len(printed) == 6
    start, task, waited, status, made, schedules = printed
    assert json.loads(start)["status"] == "submitted"
    assert json.loads(task)["units"]["total"] in (0, 9)  # 0 before it is planned
    assert "Completed" in waited
    assert "Collector" in status
    assert json.loads(made)["name"] == "mornings"
    assert "mornings" in schedules
    assert ended(api, task_id)["status"] == "completed"

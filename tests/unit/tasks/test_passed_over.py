"""Files that were not used are named on the task: each once, not too many, for its attempt."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.tasks.passed_over import MOST_FILES, PassedOverFiles
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task

DAMAGED, MISSING = "ARCHIVE_FILE_DAMAGED", "ARCHIVE_FILE_MISSING"


@pytest.fixture
def task_id(run: Any, backend: Any) -> str:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1m"]}
    return run(submit_collection(backend, body, "me", "r"))


@pytest.fixture
def named(run: Any, backend: Any, task_id: str) -> Any:
    def named() -> list[dict[str, str]]:
        return run(view_task(backend, task_id))["passed_over"]

    return named


def test_files_are_named_once_with_their_reasons(run, backend, task_id, named) -> None:
    assert named() == []
    table = PassedOverFiles(backend)
    for _ in range(2):
        run(table.add(task_id, 1, [("BUSDT-1m-2025-01.zip", DAMAGED), ("A.zip", MISSING)]))
    assert named() == [
        {"file": "A.zip", "reason": MISSING},
        {"file": "BUSDT-1m-2025-01.zip", "reason": DAMAGED},
    ]


def test_no_more_than_so_many_are_named(run, backend, task_id, named, aws) -> None:
    table = PassedOverFiles(backend)
    for first in range(0, 100, 7):
        files = [(f"{at:03}.zip", MISSING) for at in range(first, first + 7)]
        run(table.add(task_id, 1, files))
    assert MOST_FILES <= len(named()) < MOST_FILES + 7
    run(table.add(task_id, 1, [(f"x{at}.zip", MISSING) for at in range(100)]))
    assert len(named()) < MOST_FILES + 7


def test_no_file_is_named_beside_as_many_as_may_be(run, backend, task_id, named) -> None:
    table = PassedOverFiles(backend)
    run(table.add(task_id, 1, [(f"{at:03}.zip", MISSING) for at in range(MOST_FILES)]))
    run(table.add(task_id, 1, [("x.zip", MISSING)]))
    assert [each["file"] for each in named()] == [f"{at:03}.zip" for at in range(MOST_FILES)]


def test_an_older_attempt_and_a_task_that_is_gone_name_nothing(
    run, backend, task_id, named, aws, settings
) -> None:
    table = PassedOverFiles(backend)
    run(table.add(task_id, 2, [("A.zip", MISSING)]))
    before = len(aws.items(settings.tasks_table))
    run(table.add("gone", 1, [("A.zip", MISSING)]))
    assert named() == []
    assert len(aws.items(settings.tasks_table)) == before


def test_nothing_is_written_where_nothing_is_named(run, backend, task_id, aws) -> None:
    before = len(aws.calls)
    run(PassedOverFiles(backend).add(task_id, 1, []))
    assert len(aws.calls) == before

"""A client generated from docs/openapi.json, as other teams make theirs, works on the stack."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infra.package import ROOT
from tests.e2e.stack import Cloud
from tests.e2e.waiting import until

NAME = "generated_collector_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes; a schema that it passes over is an error."""
    folder = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    command += ["--path", str(ROOT / "docs" / "openapi.json"), "--meta", "none"]
    # Its last step formats the code, with the ruff beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        [*command, "--output-path", str(folder / NAME)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module(NAME)
    sys.path.remove(str(folder))


@pytest.fixture
def client(generated: ModuleType, cloud: Cloud) -> Iterator[Any]:
    with generated.Client(base_url=cloud.api_url, raise_on_unexpected_status=True) as client:
        yield client


def _models() -> Any:
    return importlib.import_module(f"{NAME}.models")


def _call(name: str) -> Any:
    """The generated function of an operation, by the module that it is alone in."""
    return importlib.import_module(f"{NAME}.api.{name}").sync


def test_a_generated_client_drives_a_task_from_start_to_end(client: Any) -> None:
    models, get_task = _models(), _call("tasks.get_task")

    def ended(task_id: Any) -> Any:
        return until(
            lambda: get_task(task_id, client=client),
            lambda task: task.status.value in ("completed", "failed", "cancelled"),
        )

    refreshed = ended(_call("work.refresh_symbols")(client=client).task_id)
    assert refreshed.result.symbols > 0
    month = (datetime.now(UTC) - timedelta(days=40)).date().isoformat()
    wanted = models.StartRequest(
        symbols=["ARUSDT"],
        timeframes=[models.Timeframe.HOUR_1, models.Timeframe.MONTH_1],
        start=month,
        priority=models.Priority.HIGH,
    )
    accepted = _call("work.start")(client=client, body=wanted)
    assert accepted.status == "submitted"
    task = ended(accepted.task_id)
    assert (task.status, task.progress) == (models.TaskState.COMPLETED, 100)
    assert task.units.succeeded == task.units.total == 2
    assert task.candles == task.result.candles > 0
    page = _call("tasks.list_tasks")(client=client, task_type=models.TaskType.DATA_COLLECTION)
    assert accepted.task_id in [listed.task_id for listed in page.tasks]
    refused = _call("work.start")(client=client, body=models.StartRequest(symbols=["NOSUCHSYMBOL"]))
    assert (refused.status, refused.reason) == (400, "INVALID_REQUEST")
    assert refused.errors[0].pointer == "/symbols/0"


def test_a_generated_client_keeps_schedules(client: Any) -> None:
    models = _models()
    asked = models.ScheduledCollection(symbols=["ETHUSDT"], timeframes=[models.Timeframe.DAY_1])
    new = models.NewSchedule(expression="cron(0 0 29 2 ? *)", name="leap days", request=asked)
    made = _call("schedules.create_schedule")(client=client, body=new)
    assert made.request.timeframes == [models.Timeframe.DAY_1]
    changed = _call("schedules.change_schedule")(
        made.schedule_id, client=client, body=models.ScheduleChange(overlap=models.Overlap.QUEUE)
    )
    assert changed.overlap == models.Overlap.QUEUE
    listed = _call("schedules.list_schedules")(client=client)
    assert made.schedule_id in [each.schedule_id for each in listed.schedules]
    gone = _call("schedules.delete_schedule")(made.schedule_id, client=client)
    assert gone.status == "deleted"

"""An upgrade while tasks run: what the release before has queued and stored, this one finishes.

`make test-extra` runs it, against the commit before the newest that changed what is deployed;
`UPGRADE_FROM=<revision>` names another one. It needs git, for the older code. Both packages are
built by their own code.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.names import stack_name
from infra.package import ROOT, Package
from local.deploy import DeployFailed, deploy, embedded_urls
from market_data_collector.client import Client
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.test_main_job import as_sent, ended, known, lift_pause, stored
from tests.e2e.waiting import until

DEPLOYED = ("app.py", "chalicelib", "console", "infra", ".chalice", "settings.toml")
DEPLOYED += ("docs/openapi.json", "requirements.txt")
STACK = stack_name("local")
#: So that messages of workers that an update ends come back within minutes.
SETTINGS = {"COLLECT_TIMEOUT_SECONDS": "30", "RETENTION_SECONDS": "3600"}
#: Of a task with more units than are queued at a time: some are in messages, some are still to be.
UNITS = 300
TIMEFRAMES = ["1h", "1d"]
#: IAM refuses a role that everybody but one may assume.
TRUST = {"Effect": "Allow", "NotPrincipal": {"AWS": "*"}, "Action": "sts:AssumeRole"}


#: What an update ends comes back after its queue's visibility timeout, three minutes.
PATIENCE_S = 500


class Task(NamedTuple):
    id: str
    symbols: list[str]


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the release before, which share the requirements that are built already."""
    folder = tmp_path_factory.mktemp("before")
    newest = _git("rev-list", "-1", "HEAD", "--", *DEPLOYED).decode().strip()
    revision = os.environ.get("UPGRADE_FROM", f"{newest}~1")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", revision))) as archive:
        archive.extractall(folder, filter="data")
    (folder / "build").mkdir()
    (folder / "build" / "cache").symlink_to(ROOT / "build" / "cache")
    return folder


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Filled when the stack is made: `before` and `now`."""
    return {"now": tmp_path_factory.mktemp("now") / "package"}


@pytest.fixture(scope="module")
def cloud(
    tmp_path_factory: pytest.TempPathFactory, old_code: Path, packages: dict[str, Path]
) -> Iterator[Cloud]:
    """A stack of the release before."""

    def of_the_release_before(built: Package, endpoint: str) -> None:
        shutil.copytree(built.folder, packages["now"])
        variables = _variables(built.folder)
        names = ("EXCHANGE", "EXCHANGE_URL", *SETTINGS)
        chosen = {name: variables[name] for name in names}
        environ = {name: text for name, text in os.environ.items() if name not in variables}
        command = [sys.executable, "-m", "infra.package", "--stage", "local", "--for-this-machine"]
        done = subprocess.run(
            [*command, "--out", str(built.folder)],
            cwd=old_code,
            env={**environ, **chosen, "PYTHONPATH": str(old_code)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    home = tmp_path_factory.mktemp("cloud")
    with running_cloud(home, SETTINGS, prepare=of_the_release_before) as cloud:
        packages["before"] = home / "package" / "unpacked"  # what local/cloud.py makes of it
        yield cloud


def _variables(package: Path) -> dict[str, Any]:
    template = json.loads((package / "sam.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = template["Resources"]["Collect"]["Properties"]["Environment"]
    return dict(found["Variables"])


@pytest.fixture
def api(cloud: Cloud) -> Iterator[Client]:
    with updated(cloud) as api:
        ended(api, api.refresh_symbols().task_id)
        yield api


@pytest.fixture
def exchange(cloud: Cloud) -> Iterator[ExchangeControl]:
    with controlled(cloud) as exchange:
        yield exchange


def deployed_code(cloud: Cloud) -> str:
    found = cloud.client("lambda").get_function(FunctionName=cloud.function("Collect"))
    return str(found["Configuration"]["CodeSha256"])


def code_of(package: Path) -> str:
    digest = hashlib.sha256((package / "deployment.zip").read_bytes()).digest()
    return base64.b64encode(digest).decode()


@contextmanager
def under_way(cloud: Cloud, api: Client, exchange: ExchangeControl, first: int) -> Iterator[Task]:
    """A task of which some is collected, and most is not before the end of the block: the exchange
    says no."""
    symbols = known(api)[first:][: UNITS // len(TIMEFRAMES)]
    body = {"symbols": symbols, "timeframes": TIMEFRAMES}
    task = Task(str(api.start(**body).task_id), symbols)
    until(lambda: api.task(task.id), lambda found: found["units"]["succeeded"] > 0, PATIENCE_S)
    busy = {"status": 429, "code": -1003, "msg": "Too much request weight", "retry_after": 10}
    with exchange.fault(kind="status", match={"path": "/api/v3/klines"}, **busy):
        # AWS lets a function that runs come to its end. The embedded cloud kills it, and what it
        # had in hand comes back minutes later.
        until(api.status, _waits, PATIENCE_S)
        yield task
        with updated(cloud) as api:
            assert api.task(task.id)["units"]["remaining"] > 0, "it ended before the update"
    lift_pause(cloud)


def _waits(status: dict[str, Any]) -> bool:
    """Whether the fleet does, and no worker holds a message."""
    return bool(status["breaker"]["open"] and not status["queues"]["work"]["in_flight"])


def updated(cloud: Cloud) -> Client:
    """A client of the API as it is reached after an update.

    The embedded cloud gives an API whose description has changed another id; AWS does not
    (CloudFormation User Guide, AWS::ApiGateway::RestApi: a change of Body needs no replacement).
    """
    return Client(embedded_urls(cloud.endpoint_url, cloud.account, STACK)[0])


def must_be_whole(cloud: Cloud, api: Client, exchange: ExchangeControl, task: Task) -> None:
    found = ended(api, task.id, PATIENCE_S)
    assert found["status"] == "completed", found
    assert found["units"] == {
        "total": UNITS,
        "succeeded": UNITS,
        "failed": 0,
        "remaining": 0,
        "from_store": 0,
    }
    for symbol in task.symbols[::30]:
        candles = stored(cloud.candles_dir, symbol, "1h")
        served = exchange.klines(symbol, "1h", candles[0][0], candles[-1][0] + 1)
        assert candles == [as_sent(row) for row in served], symbol


def test_an_update_that_fails_is_rolled_back_and_the_code_before_goes_on(
    cloud: Cloud, api: Client, exchange: ExchangeControl, packages: dict[str, Path], tmp_path: Path
) -> None:
    before = deployed_code(cloud)
    assert before == code_of(packages["before"])
    broken = tmp_path / "broken"
    shutil.copytree(packages["now"], broken)
    template = json.loads((broken / "sam.json").read_text(encoding="utf-8"))
    template["Resources"]["Wrong"] = {
        "Type": "AWS::IAM::Role",
        "DependsOn": ["Collect", "Plan", "Sweep"],
        "Properties": {"AssumeRolePolicyDocument": {"Statement": [TRUST]}},
    }
    (broken / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    with (
        under_way(cloud, api, exchange, 0) as task,
        pytest.raises(DeployFailed, match="Wrong"),
    ):
        deploy(cloud.account, broken, STACK)
    [stack] = cloud.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert deployed_code(cloud) == before
    with updated(cloud) as again:
        must_be_whole(cloud, again, exchange, task)


def test_what_the_release_before_has_queued_and_stored_this_one_finishes(
    cloud: Cloud, api: Client, exchange: ExchangeControl, packages: dict[str, Path]
) -> None:
    done = ended(api, api.start(symbols=["ZENUSDT"], timeframes=["1h"]).task_id)
    schedule = api.create_schedule(
        name="daily", expression="rate(1 day)", request={"symbols": ["ZENUSDT"]}
    )
    with under_way(cloud, api, exchange, UNITS) as task:
        outputs = deploy(cloud.account, packages["now"], STACK)
        assert deployed_code(cloud) == code_of(packages["now"])
    assert {name: outputs[name] for name in ("CandlesBucket", "TasksTable", "WorkQueue")} == {
        name: cloud.outputs[name] for name in ("CandlesBucket", "TasksTable", "WorkQueue")
    }
    with updated(cloud) as api:
        must_be_whole(cloud, api, exchange, task)
        assert api.task(done["task_id"])["status"] == "completed"
        assert api.schedule(schedule["schedule_id"])["name"] == "daily"
        again = ended(api, api.start(symbols=["ZENUSDT"], timeframes=["1h"]).task_id)
        assert again["candles"] <= 2  # it goes on from what the release before has stored

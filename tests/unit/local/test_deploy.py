"""Before a stack is changed: whose candles does it hold under the exchange's name?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.deploy import DeployFailed, deploy

STACK = "market-data-collector-test"


class Cloud:
    """The clients of an account with one stack, whose ledgers are `roots`: name -> root."""

    endpoint_url = None
    embedded = False
    region_name = "us-east-1"

    def __init__(self, roots: dict[str, str], status: str = "UPDATE_COMPLETE") -> None:
        self._roots = roots
        self._status = status
        self.updated = False

    def client(self, service: str) -> Any:
        return self

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if not self._status:
            raise ClientError({"Error": {"Message": f"{StackName} does not exist"}}, "")
        outputs = [{"OutputKey": "MarketTable", "OutputValue": "market"}]
        return {"Stacks": [{"StackStatus": self._status, "Outputs": outputs}]}

    def get_item(self, TableName: str, Key: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert TableName == "market"
        root = self._roots.get(Key["pk"]["S"].removeprefix("LIMIT#"))
        return {} if root is None else {"Item": {**Key, "root": {"S": root}}}

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": "1"}

    def generate_presigned_url(self, *_: Any, **__: Any) -> str:
        return "https://bucket.test/template?signed"

    def create_bucket(self, **_: Any) -> None:
        return

    def put_object(self, **_: Any) -> None:
        return

    def update_stack(self, **_: Any) -> None:
        self.updated = True

    create_stack = update_stack

    def get_waiter(self, _: str) -> Cloud:
        return self

    def wait(self, **_: Any) -> None:
        return


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package for https://here.test under the name `mine`."""
    outputs = {"Exchange": {"Value": "mine"}, "ExchangeRoot": {"Value": "https://here.test"}}
    template = {"Resources": {}, "Outputs": outputs}
    (tmp_path / "sam.json").write_text(json.dumps(template), encoding="utf-8")
    (tmp_path / "deployment.zip").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_whose_name_has_another_root_is_not_changed(package: Path, status: str) -> None:
    cloud = Cloud({"mine": "https://there.test"}, status)
    with pytest.raises(DeployFailed, match=r"mine belongs to https://there\.test.*EXCHANGE="):
        deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert not cloud.updated


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "DELETE_COMPLETE", ""])
@pytest.mark.parametrize("roots", [{}, {"mine": "https://here.test"}, {"other": "https://b.test"}])
def test_any_other_stack_is_deployed(package: Path, roots: dict[str, str], status: str) -> None:
    cloud = Cloud(roots, status)
    deploy(cloud, package, STACK)  # type: ignore[arg-type]
    assert cloud.updated

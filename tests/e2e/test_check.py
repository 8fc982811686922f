"""`data-collector check` against the packaged application."""

from __future__ import annotations

import json

import pytest

from infra.names import stack_name
from local.aws import DUMMY_CREDENTIALS
from market_data_collector.cli.__main__ import main
from market_data_collector.cli.check_steps import STEPS
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud


def test_a_working_stack_passes_and_keeps_nothing_of_the_check(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in DUMMY_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint_url)
    monkeypatch.setenv("DATA_COLLECTOR_URL", cloud.api_url)
    # EventBridge's minutes are too long for this test; tests/e2e/test_schedules.py waits for one.
    stack = ("--stack", stack_name("local"))
    code = main(["check", "--symbol", "MAGICUSDT", "--without", "fires", "--json", *stack])
    answer = json.loads(capsys.readouterr().out)
    outcomes = {each["step"]: each["outcome"] for each in answer["steps"]}
    assert [each for each in answer["steps"] if each["outcome"] == "failed"] == []
    assert code == 0
    # This stack asks nobody for a key.
    others = {"fires": "out", "keys": "-"}
    assert outcomes == {step.name: others.get(step.name, "ok") for step in STEPS}
    data = next(each for each in answer["steps"] if each["step"] == "data")
    assert data["detail"] == f"24 candles in s3://{cloud.bucket}"
    with Client(cloud.api_url) as api:
        assert not [each for each in api.schedules() if "check" in each["name"]]

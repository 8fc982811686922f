"""Access logs of both APIs: the built template with the setting on; the merge without."""

from __future__ import annotations

import json
from typing import Any

from infra import template as merge
from infra.configuration import environment


def _destinations(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "RestAccessLogs": resources["RestAPI"]["Properties"]["AccessLogSetting"],
        "WebsocketAccessLogs": resources["WebsocketAPIStage"]["Properties"]["AccessLogSettings"],
    }


def test_each_api_writes_to_a_log_group_of_its_own(resources: dict[str, Any]) -> None:
    for group, logged in _destinations(resources).items():
        assert resources[group]["Type"] == "AWS::Logs::LogGroup"
        assert logged["DestinationArn"]["Fn::Sub"].endswith(f":log-group:${{{group}}}")


def test_a_line_says_who_what_when_and_how_it_ended_and_quotes_no_query(
    resources: dict[str, Any],
) -> None:
    for logged in _destinations(resources).values():
        assert "\n" not in logged["Format"]
        line = json.loads(logged["Format"])
        assert {"request_id", "time", "ip", "status", "error"} <= set(line)
        # A ticket is in the query; keys and signatures are in headers.
        assert not any(
            word in value.lower()
            for value in line.values()
            for word in ("query", "header", "authorization", "apikey")
        )


def test_without_access_logs_there_is_neither_group_nor_destination() -> None:
    resources = merge.build(environment("dev", {"ACCESS_LOGS": "false"}))["Resources"]
    assert not [name for name in resources if name.endswith("AccessLogs")]
    assert "AccessLogSetting" not in resources["RestAPI"]["Properties"]
    assert "AccessLogSettings" not in resources["WebsocketAPIStage"]["Properties"]

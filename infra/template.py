"""The merge template: everything that Chalice does not create, laid over what it does.

`chalice package --merge-template` merges dictionaries deeply and lets lists and scalars of this
one win. Python rather than JSON, so that it can say why, and four queues are not written out four
times.
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.environ import from_environ
from chalicelib.core.settings import Settings
from infra import (
    access_logs,
    alarms,
    budget,
    dashboard,
    functions,
    loops,
    policies,
    queries,
    schedules,
    storage,
)

_NAMED = (
    "TasksTable",
    "MarketTable",
    "ConnectionsTable",
    "AuditTable",
    "KeysTable",
    "CandlesBucket",
    "EventBus",
    "ScheduleGroup",
)
_QUEUES = (
    *("PlanQueue", "UrgentQueue", "WorkQueue", "DeadLetterQueue", "StreamFailureQueue"),
    *("WebhookQueue", "WebhookDeadLetterQueue", "PushQueue", "ScheduleFailureQueue"),
    "UnreadableQueue",
)


def build(variables: dict[str, str]) -> dict[str, Any]:
    """The merge template of a stage; `variables` as `configuration.environment` returns them."""
    settings = from_environ(variables)
    tables = storage.tables(settings.deletion_protection)
    queues = storage.queues(functions.timeouts(settings))
    resources = {
        **tables,
        **queues,
        **storage.bucket(settings.bucket_versioning, queries.expiry(settings)),
        **queries.resources(settings),
        **storage.bus(),
        **functions.functions(settings, variables),
        **access_logs.resources(settings),
        **policies.roles(),
        **schedules.resources(),
        **alarms.resources(settings),
        **budget.resources(settings),
        **dashboard.resources(settings, queues, tables),
    }
    loops.allow(resources)
    return {"Resources": resources, "Outputs": _outputs(settings)}


def _outputs(settings: Settings) -> dict[str, Any]:
    outputs: dict[str, Any] = {name: {"Value": {"Ref": name}} for name in (*_NAMED, *_QUEUES)}
    outputs |= {f"{name}Arn": {"Value": {"Fn::GetAtt": [name, "Arn"]}} for name in _QUEUES}
    host = "execute-api.${AWS::Region}.${AWS::URLSuffix}"
    outputs |= queries.outputs(settings)
    outputs["AlarmTopic"] = {"Value": {"Ref": "AlarmTopic"}}
    outputs["Dashboard"] = {"Value": {"Ref": "Dashboard"}}
    # local/deploy.py looks at them, so that no name is given to another root.
    outputs["Exchange"] = {"Value": settings.exchange}
    outputs["ExchangeRoot"] = {"Value": settings.exchange_root}
    outputs["ConsoleURL"] = {
        "Description": "The web console",
        "Value": {"Fn::Sub": f"https://${{RestAPI}}.{host}/api/"},
    }
    # Chalice's own is the stage's root, which is the console's.
    outputs["EndpointURL"] = {
        "Description": "The collector's status; the API's other paths are beside it",
        "Value": {"Fn::Sub": f"https://${{RestAPI}}.{host}/api/v1/data-collector/status"},
    }
    outputs["WebSocketURL"] = {
        "Description": "Task updates as they happen",
        "Value": {"Fn::Sub": f"wss://${{WebsocketAPI}}.{host}/api"},
    }
    return outputs

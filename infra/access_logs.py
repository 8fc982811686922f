"""One log line for each request to either API: who asked for what, when, and what came of it.

API Gateway writes them with a role of its account (docs/AWS.md, "Access logs"). Lines hold the path
and no query, because a query may hold a ticket.

Source: API Gateway Developer Guide, "Variables for access logging for API Gateway" and "Set up
logging for WebSocket APIs in API Gateway".
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.core.settings import Settings

Resource = dict[str, Any]

#: As long as the functions' logs (.chalice/config.json).
DAYS = 14

_ALWAYS = {
    "request_id": "$context.requestId",
    "time": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "user_agent": "$context.identity.userAgent",
    "status": "$context.status",
}
_REST = {
    **_ALWAYS,
    "caller": "$context.identity.userArn",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "bytes": "$context.responseLength",
    "ms": "$context.responseLatency",
    "error": "$context.error.responseType",
}
_WEBSOCKET = {
    **_ALWAYS,
    "connection_id": "$context.connectionId",
    "route": "$context.routeKey",
    "event": "$context.eventType",
    "error": "$context.error.responseType",
}


def resources(settings: Settings) -> dict[str, Resource]:
    """The log groups, where there are logs."""
    if not settings.access_logs:
        return {}
    group: Resource = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {"RetentionInDays": DAYS},
    }
    return {"RestAccessLogs": group, "WebsocketAccessLogs": group}


def of_rest_api(settings: Settings) -> Resource:
    """Properties of the REST API's stage."""
    return {"AccessLogSetting": _to("RestAccessLogs", _REST)} if settings.access_logs else {}


def of_websocket_api(settings: Settings) -> Resource:
    """Properties of the WebSocket API's stage."""
    if not settings.access_logs:
        return {}
    return {"AccessLogSettings": _to("WebsocketAccessLogs", _WEBSOCKET)}


def _to(group: str, line: dict[str, str]) -> Resource:
    # Not the group's attribute Arn, which ends with `:*`.
    account = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}"
    arn = {"Fn::Sub": f"{account}:log-group:${{{group}}}"}
    return {"DestinationArn": arn, "Format": json.dumps(line)}

"""What both implementations of a call do besides sending it: count it, and pass the trace on.

A trace (AWS X-Ray) begins at API Gateway or at an event source. Lambda passes it to a function in
the variable _X_AMZN_TRACE_ID. A message carries it in the system attribute AWSTraceHeader, so that
the functions behind the queue appear in the same trace.

Sources: AWS X-Ray Developer Guide, "Amazon SQS and AWS X-Ray"; EventBridge API Reference,
PutEventsRequestEntry; DynamoDB API Reference, ReturnConsumedCapacity.
"""

from __future__ import annotations

import os
from typing import Any

from chalicelib.core import metrics

_READS = frozenset({"BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems"})
_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


def outgoing(service: str, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Count a call; the parameters to send, with the trace, and asking what the call consumes."""
    metrics.count("AwsCalls", Service=service)
    if service == "dynamodb":
        if operation in _READS or operation in _WRITES:
            return {"ReturnConsumedCapacity": "TOTAL", **parameters}
        return parameters
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    if not trace:
        return parameters
    if service == "sqs" and operation in ("SendMessage", "SendMessageBatch"):
        header = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
        if operation == "SendMessage":
            return {"MessageSystemAttributes": header, **parameters}
        entries = [{"MessageSystemAttributes": header, **entry} for entry in parameters["Entries"]]
        return {**parameters, "Entries": entries}
    if service == "events" and operation == "PutEvents":
        entries = [{"TraceHeader": trace, **entry} for entry in parameters["Entries"]]
        return {**parameters, "Entries": entries}
    return parameters


def incoming(service: str, operation: str, answer: dict[str, Any]) -> None:
    """Count the capacity units that a call consumed, as DynamoDB's answer says."""
    consumed = answer.get("ConsumedCapacity") if service == "dynamodb" else None
    if not consumed:
        return
    parts = consumed if isinstance(consumed, list) else [consumed]
    units = sum(float(part.get("CapacityUnits", 0)) for part in parts)
    metrics.count("ConsumedWriteUnits" if operation in _WRITES else "ConsumedReadUnits", units)

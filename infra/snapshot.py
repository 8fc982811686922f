"""The WebSocket API's deployment, made anew whenever what it is a snapshot of has changed.

AWS never refreshes a deployment: "Every time you update an API, you must redeploy it" (API Gateway
Developer Guide, "Deploy WebSocket APIs"). CloudFormation makes one when it first sees its logical
id, and so not on later deploys, where routes or integrations changed. So the logical id follows
them, as SAM's does for REST APIs.

A step after Chalice and not a part of the merge template, which cannot rename what Chalice wrote.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Template = dict[str, Any]

_DEPLOYMENT = "AWS::ApiGatewayV2::Deployment"
#: What stands outside of the snapshot, and points at it.
_OUTSIDE = (_DEPLOYMENT, "AWS::ApiGatewayV2::Stage")


def follow_api(template: Template) -> None:
    """Put what the WebSocket API is made of into the name of its deployment, in place."""
    resources = template["Resources"]
    parts = {
        name: resource
        for name, resource in resources.items()
        if resource["Type"].startswith("AWS::ApiGatewayV2::") and resource["Type"] not in _OUTSIDE
    }
    content = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
    for old in [name for name, resource in resources.items() if resource["Type"] == _DEPLOYMENT]:
        new = f"{old}{content}"
        resources[new] = resources.pop(old)
        for resource in resources.values():
            if resource.get("Properties", {}).get("DeploymentId") == {"Ref": old}:
                resource["Properties"]["DeploymentId"] = {"Ref": new}

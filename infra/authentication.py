"""Requests that must be signed (AUTHENTICATION=iam): every method of the API in the template.

A step after Chalice and not a part of the merge template, which would have to name every path.
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.settings import Settings

_SCHEME = "sigv4"
#: All else is static pages, which a browser asks for without a signature.
_API = "/v1/"
#: Not options: a browser signs no preflight.
_METHODS = frozenset({"get", "put", "post", "delete", "head", "patch"})


def require(template: dict[str, Any], settings: Settings) -> None:
    """Change the template, in place, as the setting AUTHENTICATION says.

    Source: API Gateway Developer Guide, "x-amazon-apigateway-authtype property".
    """
    if settings.authentication != "iam":
        return
    for resource in template["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Api":
            continue
        definition = resource["Properties"]["DefinitionBody"]
        definition.setdefault("securityDefinitions", {})[_SCHEME] = {
            "in": "header",
            "type": "apiKey",
            "name": "Authorization",
            "x-amazon-apigateway-authtype": "awsSigv4",
        }
        for path, methods in definition["paths"].items():
            if not path.startswith(_API):
                continue
            for name, method in methods.items():
                if name in _METHODS or name == "x-amazon-apigateway-any-method":
                    method["security"] = [{_SCHEME: []}]

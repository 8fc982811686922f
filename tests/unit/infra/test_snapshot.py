"""A deploy that changes the WebSocket API reaches those who connect."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import snapshot

ROUTES = ("$connect", "$default", "$disconnect")
VALUES = st.one_of(st.text(max_size=20), st.integers(), st.booleans())


def as_chalice_writes(**changed: dict[str, Any]) -> dict[str, Any]:
    """A template with a WebSocket API; `changed`: properties by the resource that they go into."""
    resources: dict[str, Any] = {
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"ProtocolType": "WEBSOCKET"}},
        "Deployment": {
            "Type": "AWS::ApiGatewayV2::Deployment",
            "DependsOn": [],
            "Properties": {"ApiId": {"Ref": "Api"}},
        },
        "Stage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {"ApiId": {"Ref": "Api"}, "DeploymentId": {"Ref": "Deployment"}},
        },
        "Plan": {"Type": "AWS::Serverless::Function", "Properties": {}},
    }
    for number, key in enumerate(ROUTES):
        resources[f"Integration{number}"] = {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": {"ApiId": {"Ref": "Api"}, "IntegrationUri": f"uri {number}"},
        }
        resources[f"Route{number}"] = {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {"ApiId": {"Ref": "Api"}, "RouteKey": key},
        }
    for name, properties in changed.items():
        resources[name]["Properties"] |= properties
    return {"Resources": resources}


def deployment(template: dict[str, Any]) -> str:
    """The logical id to which the stage points, after the step."""
    copied = deepcopy(template)
    snapshot.follow_api(copied)
    resources = copied["Resources"]
    [name] = [
        name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::ApiGatewayV2::Deployment"
    ]
    assert resources["Stage"]["Properties"]["DeploymentId"] == {"Ref": name}
    assert len(resources) == len(template["Resources"])
    return name


@pytest.mark.parametrize(
    "part", ["Api", *(f"{kind}{at}" for kind in ("Route", "Integration") for at in range(3))]
)
@settings(deadline=None)
@given(value=VALUES)
def test_any_change_of_the_api_makes_a_new_deployment(part: str, value: Any) -> None:
    changed = as_chalice_writes(**{part: {"Something": value}})
    assert deployment(changed) != deployment(as_chalice_writes())


@pytest.mark.parametrize("gone", ["Route1", "Integration2"])
def test_a_part_that_is_gone_makes_a_new_deployment(gone: str) -> None:
    template = as_chalice_writes()
    del template["Resources"][gone]
    assert deployment(template) != deployment(as_chalice_writes())


@pytest.mark.parametrize("part", ["Plan", "Stage"])
@settings(deadline=None)
@given(value=VALUES)
def test_a_change_of_anything_else_keeps_the_deployment(part: str, value: Any) -> None:
    changed = as_chalice_writes(**{part: {"Something": value}})
    assert deployment(changed) == deployment(as_chalice_writes())


def test_the_built_templates_deployment_is_made_after_all_routes_and_before_its_stage(
    resources: dict[str, Any],
) -> None:
    routes = {
        name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::ApiGatewayV2::Route"
    }
    [(name, made)] = [
        (name, resource)
        for name, resource in resources.items()
        if resource["Type"] == "AWS::ApiGatewayV2::Deployment"
    ]
    assert name.isalnum()  # CloudFormation's rule of logical ids
    assert name.startswith("WebsocketAPIDeployment")
    assert name != "WebsocketAPIDeployment"
    assert set(made["DependsOn"]) == routes
    assert resources["WebsocketAPIStage"]["Properties"]["DeploymentId"] == {"Ref": name}


def test_the_rest_api_has_no_stage_besides_ours(resources: dict[str, Any]) -> None:
    """SAM Developer Guide, AWS::Serverless::Api: any OpenApiVersion keeps it from making one."""
    api = resources["RestAPI"]["Properties"]
    assert api["StageName"] == "api"
    assert api["OpenApiVersion"] == api["DefinitionBody"]["swagger"] == "2.0"

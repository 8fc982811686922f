"""The packaged API asks for keys: a second function of the same package, told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.first_key import first_admin_key
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.waiting import until

ROOT = "/v1/data-collector"
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ask(cloud: Cloud) -> Iterator[Ask]:
    """Send a request to an API that asks for keys: method, path, key, body."""
    functions = cloud.client("lambda")
    like = functions.get_function_configuration(FunctionName=cloud.function("APIHandler"))
    variables = {**like["Environment"]["Variables"], "AUTHENTICATION": "keys"}
    package = cloud.log.parent / "package" / "deployment.zip"
    name = "asking-for-keys"
    functions.create_function(
        FunctionName=name,
        **{key: like[key] for key in ("Runtime", "Role", "Handler", "Timeout", "MemorySize")},
        Environment={"Variables": variables},
        Code={"ZipFile": package.read_bytes()},
    )

    def send(
        method: str, path: str, key: str | None = None, body: object = None, **ids: str
    ) -> tuple[int, dict[str, Any]]:
        event = {
            "requestContext": {"httpMethod": method, "resourcePath": ROOT + path, "identity": {}},
            "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
            "multiValueQueryStringParameters": None,
            "pathParameters": ids,
            "stageVariables": None,
            "body": None if body is None else json.dumps(body),
            "isBase64Encoded": False,
        }
        invoked = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        answer = json.loads(invoked["Payload"].read())
        assert "FunctionError" not in invoked, answer
        return answer["statusCode"], json.loads(answer["body"])

    yield send
    functions.delete_function(FunctionName=name)


def test_a_key_opens_what_its_scope_says_until_it_is_revoked(cloud: Cloud, ask: Ask) -> None:
    admin = first_admin_key(cloud.account, "keys", cloud.outputs)
    assert first_admin_key(cloud.account, "keys", cloud.outputs) is None
    assert ask("GET", "/tasks")[1]["reason"] == "KEY_REQUIRED"
    assert ask("GET", "/tasks", "mdc_wrong")[1]["reason"] == "KEY_REFUSED"
    status, made = ask("POST", "/keys", admin, {"owner": "research", "scopes": ["read"]})
    assert status == 201
    assert ask("GET", "/tasks", made["key"]) == (200, {"tasks": [], "next_page_token": None})
    status, problem = ask("GET", "/keys", made["key"])
    assert (status, problem["scopes"]) == (403, ["admin"])
    status, listed = ask("GET", "/keys", admin)
    assert {key["owner"] for key in listed["keys"]} == {"admin", "research"}
    assert ask("DELETE", "/keys/{key_id}", admin, key_id=made["key_id"])[0] == 200
    assert ask("GET", "/tasks", made["key"])[1]["reason"] == "KEY_ENDED"
    with Client(cloud.api_url) as api:
        events = until(
            lambda: [*api.audit(key_id=made["key_id"])],
            lambda found: len(found) == 2,
        )
        assert [(each["action"], each["by"]) for each in events] == [
            ("key.created", "admin"),
            ("key.revoked", "admin"),
        ]
        first = [*api.audit(key_id=str(admin).split("_")[1])]
        assert [(each["action"], each["by"]) for each in first] == [("key.created", "deployer")]

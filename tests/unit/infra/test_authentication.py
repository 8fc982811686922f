"""Requests that must be signed: the built template of both settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import app
from chalicelib.access.scopes import OPEN
from chalicelib.api import web
from chalicelib.core.errors import SettingsInvalid
from infra.configuration import ROOT, environment
from infra.package import package


def _template(folder: Path, authentication: str, **more: str) -> tuple[Path, dict[str, Any]]:
    environ = {"AUTHENTICATION": authentication, "PATH": os.environ["PATH"], **more}
    file = package("dev", folder / "package", environ, for_this_machine=True).template
    return file, json.loads(file.read_text(encoding="utf-8"))


def _methods(template: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    paths = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    return {(path, name): method for path, found in paths.items() for name, method in found.items()}


@pytest.mark.parametrize("authentication", ["none", "keys"])
def test_without_iam_no_method_asks_for_a_signature(tmp_path: Path, authentication: str) -> None:
    _, template = _template(tmp_path, authentication, ALLOW_PUBLIC="yes")
    assert not [name for name, method in _methods(template).items() if "security" in method]


@pytest.mark.parametrize("allowed", [{}, {"ALLOW_PUBLIC": "no"}])
def test_an_api_for_everybody_is_packaged_only_where_that_is_meant(
    tmp_path: Path, allowed: dict[str, str]
) -> None:
    with pytest.raises(SettingsInvalid, match="ALLOW_PUBLIC=yes"):
        _template(tmp_path, "none", **allowed)


def test_keys_are_asked_for_on_every_stage_but_local() -> None:
    stages = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))["stages"]
    chosen = {stage: environment(stage, {})["AUTHENTICATION"] for stage in stages}
    assert chosen == {stage: "none" if stage == "local" else "keys" for stage in stages}


def test_with_iam_every_method_asks_for_a_signature(tmp_path: Path) -> None:
    file, template = _template(tmp_path, "iam")
    methods = _methods(template)
    routes = {(path, name.lower()) for path, found in app.routes.items() for name in found}
    assert set(methods) == routes
    pages = {name for name in methods if not name[0].startswith("/v1/data-collector/")}
    assert ("/", "get") in pages
    assert {web.SCOPES[name.upper(), path] for path, name in pages} == {(OPEN,)}
    signed = [method for name, method in methods.items() if name not in pages]
    assert {json.dumps(method["security"]) for method in signed} == {'[{"sigv4": []}]'}
    assert not [name for name in pages if "security" in methods[name]]
    definition = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    scheme = definition["securityDefinitions"]["sigv4"]
    assert scheme["x-amazon-apigateway-authtype"] == "awsSigv4"
    functions = [
        resource["Properties"]["Environment"]["Variables"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    assert {variables["AUTHENTICATION"] for variables in functions} == {"iam"}
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [str(linter), "--regions", "us-east-1", "--", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_browser_which_signs_no_preflight_gets_an_answer_to_it(tmp_path: Path) -> None:
    _, template = _template(tmp_path, "iam", CORS_ORIGINS="https://app.example.com")
    methods = _methods(template)
    assert {path for path, name in methods if name == "options"} == set(app.routes)
    api = [name for path, name in methods if path.startswith("/v1/")]
    asked = [name for (_, name), method in methods.items() if "security" in method]
    assert sorted(asked) == sorted(name for name in api if name != "options")


def test_another_kind_of_authentication_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="AUTHENTICATION"):
        _template(tmp_path, "basic")

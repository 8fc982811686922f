"""The list of what is in the zip, as others read it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from infra import pins, platforms, sbom
from infra.package import ROOT, package
from tests.unit.infra.conftest import PATH


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listed") / "package"
    return package("dev", out, PATH, for_this_machine=True).archive


@pytest.fixture(scope="module")
def bill(archive: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((archive.parent / "sbom.cdx.json").read_text("utf-8"))
    return content


def test_it_is_valid_cyclonedx(bill: dict[str, Any]) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps(bill | {"bomFormat": "Other"})) is not None


def test_it_lists_whatever_is_in_the_zip(bill: dict[str, Any], archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        tops = {name.split("/")[0] for name in opened.namelist()}
    listed = {canonicalize_name(each["name"]) for each in bill["components"]}
    recorded = {canonicalize_name(top.split("-")[0]) for top in tops if top.endswith(".dist-info")}
    assert listed == recorded | {"chalice"}
    owners = packages_distributions()
    modules = {top.removesuffix(".py") for top in tops if not top.endswith(".dist-info")}
    present = set()
    for module in modules - {"app", "chalicelib", "console", "docs", "roots", "__pycache__"}:
        found = {canonicalize_name(owner) for owner in owners[module]} & listed
        assert found, module
        present |= found
    assert present == listed, "nothing is listed whose code was left out"


def test_each_package_has_its_licence_and_the_hash_that_was_locked(bill: dict[str, Any]) -> None:
    locked = {pin.name: pin for pin in pins.read(ROOT / "requirements.txt")}
    for each in bill["components"]:
        name = canonicalize_name(each["name"])
        assert each["purl"] == f"pkg:pypi/{name}@{each['version']}"
        assert each["licenses"], name
        if name == "chalice":
            continue
        assert each["version"] == locked[name].version
        [digest] = each["hashes"]
        assert f"sha256:{digest['content']}" in locked[name].hashes


def test_it_names_the_zip_by_its_hash_and_what_needs_what(
    bill: dict[str, Any], archive: Path
) -> None:
    [digest] = bill["metadata"]["component"]["hashes"]
    assert digest["content"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    needs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    references = {each["bom-ref"] for each in bill["components"]}
    own = bill["metadata"]["component"]["bom-ref"]
    assert set(needs) == references | {own}
    reached, waiting = set(), [own]
    while waiting:
        waiting += [need for need in needs[waiting.pop()] if need not in reached]
        reached |= set(waiting)
    assert reached == references


@pytest.mark.parametrize(
    ("metadata", "licences"),
    [
        ("License-Expression: MIT OR Apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        ("License: mit", [{"expression": "MIT"}]),
        (
            "License: BSD\nClassifier: License :: OSI Approved :: BSD License",
            [{"license": {"name": "BSD License"}}],
        ),
        (
            "License: Do what\n        you like.",
            [{"license": {"name": "Do what", "text": {"content": "Do what\nyou like."}}}],
        ),
        ("Summary: none is named", []),
    ],
)
def test_a_licence_is_an_spdx_expression_or_what_the_package_calls_it(
    tmp_path: Path, metadata: str, licences: list[Any]
) -> None:
    archive = tmp_path / "deployment.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        text = f"Metadata-Version: 2.1\nName: A.Thing\nVersion: 1.0\n{metadata}\n"
        opened.writestr("A_Thing-1.0.dist-info/METADATA", text)
    made = sbom.of(archive, {"a-thing": "0" * 64}, platforms.here())
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    thing = made["components"][0]
    assert (thing["purl"], thing["licenses"]) == ("pkg:pypi/a-thing@1.0", licences)

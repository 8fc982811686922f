"""The built template: what CloudFormation will be given, after Chalice and the merge."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from infra.package import package

CHOSEN = {"COLLECT_TIMEOUT_SECONDS": "45", "RETENTION_SECONDS": "600"}
PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture(scope="session")
def template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("template") / "package"
    return package("dev", out, CHOSEN | PATH, for_this_machine=True).template


@pytest.fixture(scope="session")
def template(template_file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(template_file.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found

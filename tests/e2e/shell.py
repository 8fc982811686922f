"""Commands of the documents, run against a stack of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.package import ROOT
from market_data_collector.cli.api import Api
from tests.e2e.stack import Cloud

_CLIENT = f'"{sys.executable}" -m {Api.__module__.rpartition(".")[0]}'


def shell(
    line: str, cloud: Cloud, environ: Mapping[str, str] | None = None, folder: Path = ROOT
) -> str:
    """What a line of a page prints; the client's address and that of `make run` are the stack's."""
    line = line.replace(".venv/bin/data-collector", _CLIENT)
    line = line.replace("curl ", "curl --silent --fail ")
    known = {"DATA_COLLECTOR_URL": cloud.api_url, "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line.replace("http://localhost:8000", cloud.api_url)],
        cwd=folder,
        env={**os.environ, **known, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, line + done.stdout + done.stderr
    return done.stdout

"""One side of a comparison, run in a process of its own, and the median of its runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Passes of a side's work that are measured, behind a first one that is not. The least one counts:
#: what another took longer was not the side's, but the machine's, as with Python's timeit.
PASSES = 5
_ROOT = Path(__file__).resolve().parent.parent


def run_side(
    module: str,
    *arguments: str,
    ca_bundle: Path | None = None,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `python -m benchmarks.<module> <arguments>` printed as JSON.

    `environment`: variables beside those of this process.
    """
    trusted = {"SSL_CERT_FILE": str(ca_bundle)} if ca_bundle else {}
    done = subprocess.run(
        [python, "-m", f"benchmarks.{module}", *arguments],
        cwd=_ROOT,
        env={**os.environ, **trusted, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)

"""One side of a comparison, run in a process of its own, and the median of its runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


def run_side(module: str, *arguments: str, ca_bundle: Path | None = None) -> dict[str, Any]:
    """What `python -m benchmarks.<module> <arguments>` printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=_ROOT,
        env={**os.environ, **({"SSL_CERT_FILE": str(ca_bundle)} if ca_bundle else {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)

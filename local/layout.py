"""Where the local stack keeps things: everything is below .local/, which git ignores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from local.scratch import JOURNAL

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".local"
LOCK = HOME / "lock"
PORTS = HOME / "ports.json"
ENDPOINTS = HOME / "endpoints.json"
PACKAGE = ROOT / "build" / "local"

METRICS_STATE = HOME / "metrics.json"
METRICS_JOURNAL = HOME / JOURNAL

CLOUD, EXCHANGE, GATEWAY, METRICS = "cloud", "exchange", "gateway", "metrics"


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; {} where there is none, or it is damaged: all of them are made
    anew by `make run`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_whole(file: Path, content: str) -> None:
    """Write `file` whole or not at all, whenever the writer is killed; for its owner's eyes only,
    because some hold keys."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(file.name + ".part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as written:
        written.write(content)
    scratch.replace(file)

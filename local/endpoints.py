"""Where the stack of this folder is: what `make run` wrote, for the commands that look at it."""

from __future__ import annotations

from typing import Any

from local.failures import StartFailed
from local.layout import CLOUD, ENDPOINTS, HOME, read_object
from local.processes import parts


def endpoints() -> dict[str, Any]:
    """The content of .local/endpoints.json. Raises StartFailed where the stack does not run."""
    found = read_object(ENDPOINTS)
    # A LocalStack is no part of ours, and has no folder of candles.
    embedded = "candles_dir" in found
    runs = any(part.name == CLOUD for part in parts(HOME)) or not embedded
    if "aws_endpoint_url" not in found or not runs:
        raise StartFailed("Nothing is running here; `make run` starts it.")
    return found

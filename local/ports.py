"""Ports of this machine: free ones, remembered, so that addresses stay the same."""

from __future__ import annotations

import json
import socket
from pathlib import Path


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remembered(file: Path, name: str, in_use: bool = False) -> int:
    """The port that `name` had before, if it is free; else another one, which is remembered.

    `in_use`: `name` runs, so its port is taken by itself.
    """
    try:
        ports = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        ports = {}
    port = ports.get(name)
    if not isinstance(port, int) or not (in_use or is_free(port)):
        port = free_port()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**ports, name: port}, indent=2), encoding="utf-8")
    return port

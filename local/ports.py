"""Ports of this machine: free ones, remembered, so that addresses stay the same."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from local.layout import read_object, write_whole
from local.processes import holder


def is_free(port: int) -> bool:
    return _error(port) is None


def trouble(port: int) -> str | None:
    """Why a server cannot listen on `port`, in a sentence; None: it can."""
    error = _error(port)
    if error is None:
        return None
    if error.errno != errno.EADDRINUSE:
        return (
            f"Port {port} is not to be had ({error.strerror}): choose another, `make run PORT=...`."
        )
    other = next((each for each in range(port + 1, 65_536) if is_free(each)), None) or free_port()
    whose, end = "another program", "end that"
    if part := holder(port):
        whose = f"the stack in {Path(part.folder).parent}"
        # A folder that is gone has no `make down`.
        gone = _is_gone(part.folder)
        end = f"`kill {part.process.pid}` ends that" if gone else "`make down` there ends that"
    return f"Port {port} is taken by {whose}: {end}, or choose another: `make run PORT={other}`."


def _is_gone(folder: str) -> bool:
    try:
        os.stat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # another user's, which this one may not look into
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remembered(file: Path, name: str, report: Callable[[str], None]) -> int:
    """The port that `name` had before, if it is free; else another one, which is remembered."""
    ports = read_object(file)
    before = ports.get(name)
    if type(before) is int and 0 < before < 65_536 and is_free(before):
        return before
    port = free_port()
    if before is not None:
        report(f"port {before} is not free any more; the {name} gets {port}")
    write_whole(file, json.dumps({**ports, name: port}, indent=2))
    return port


def _error(port: int) -> OSError | None:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None

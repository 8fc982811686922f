"""`python -m local run`, and down, dashboard and logs: what `make` starts.

Whatever ends them is said in a sentence here, from the first import on.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from types import FrameType

from local.failures import StartFailed

_COMMANDS = ("run", "down", "dashboard", "logs")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    for ending in _ENDING:
        signal.signal(ending, _interrupt)
    _, command, *rest = sys.argv
    if command not in _COMMANDS:
        print(f"There is no command {command}; there are {', '.join(_COMMANDS)}.", file=sys.stderr)
        return 2
    sys.argv = [f"local {command}", *rest]
    try:
        code = int(importlib.import_module(f"local.{command}").main())
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _end("Interrupted; `make down` ends what is running, `make run` goes on.", 130)
    except StartFailed as error:
        return _end(str(error), 1)
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). What is left is not to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _end(_sentence(error), 1)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Somebody in a hurry asks twice: the second time it ends at once, and in silence.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_DFL)
    raise KeyboardInterrupt


def _sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}: make room, and run the same command again."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"This user may not write or do that: {error.strerror}{where}."
    return f"{error.strerror or error}{where}."


def _end(line: str, code: int) -> int:
    try:
        print(f"✗ {line}", file=sys.stderr, flush=True)
    except OSError:
        code = 129  # the terminal was closed, and nobody reads this
    return code


if __name__ == "__main__":
    sys.exit(main())

"""`make down`: end what `make run` started, and nothing else. Data and state stay in .local/."""

from __future__ import annotations

import sys

from local import cloud
from local.layout import ENDING_ORDER, HOME, PROCESSES
from local.processes import Registry, stop


def main() -> int:
    registry = Registry(PROCESSES)
    ended = []
    for name in ENDING_ORDER:
        process = registry.get(name)
        if process is not None:
            stop(process)
            ended.append(name)
        registry.remove(name)
    cloud.tidy(HOME)
    print(f"Ended: {', '.join(ended)}." if ended else "Nothing was running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

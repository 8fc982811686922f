"""`python -m tests.chaos`: does every promise hold while everything breaks?"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from infra.package import PackagingFailed
from local.aws import DUMMY_CREDENTIALS
from local.deploy import DeployFailed
from local.failures import StartFailed
from tests.chaos.run import run
from tests.chaos.watching import Broken


def main() -> int:
    given = _parse()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if not Path("/proc/self/stat").exists():
        console.print("This needs Linux: processes are found in /proc.")
        return 2
    # Whoever looks behind the API calls the embedded cloud as the tests' clients do.
    os.environ.update(DUMMY_CREDENTIALS)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        run(home, given.units, given.kills, given.seed, console)
    except (Broken, AssertionError, StartFailed, DeployFailed, PackagingFailed) as error:
        console.print(f"FAILED with seed {given.seed}: {error}", style="red", markup=False)
        console.print(f"The logs are in {home}", markup=False)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="One task of many units on an embedded cloud of its own, while workers are "
        "killed, messages duplicated, the exchange fails and the cloud's endpoint refuses; then "
        "what was promised is checked. Exit code 0 means that all of it held.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--units", type=_units, default=1200, help="symbol x timeframe, at least")
    parser.add_argument("--kills", type=_count, default=100, help="worker processes to kill")
    parser.add_argument("--seed", type=int, default=1, help="of every random choice")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _units(text: str) -> int:
    count = int(text)
    if not 3 <= count <= 12_000:
        raise argparse.ArgumentTypeError("from 3 to 12000")
    return count


if __name__ == "__main__":
    sys.exit(main())

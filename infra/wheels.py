"""The wheels of the functions' requirements: `python -m infra.wheels` sees that all are there.

pip takes wheels for another Python and processor than its own. But it judges the markers of
requirements for the machine that it runs on, so the pins are chosen here, and pip looks for nothing
that they need in turn: what is locked is complete.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from packaging.utils import canonicalize_name

from chalicelib.core.settings import LAMBDA_ARCHITECTURES, LAMBDA_RUNTIMES
from infra import pins
from infra.platforms import Platform

ROOT = Path(__file__).resolve().parent.parent
Digests = dict[str, str]


class WheelsMissing(Exception):
    """The requirements cannot be installed; the message says why in one sentence."""


def install(lock: Path, folder: Path, platform: Platform, *options: str) -> Digests:
    """Unpack what `lock` wants on `platform` into `folder`.

    Returns the SHA-256 of each wheel by the name of its package. Raises WheelsMissing.
    """
    wanted = pins.wanted(pins.read(lock), platform.markers())
    with tempfile.TemporaryDirectory() as scratch:
        requirements, report = Path(scratch) / "requirements.txt", Path(scratch) / "report.json"
        requirements.write_text("".join(f"{pin.line}\n" for pin in wanted), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command += [*platform.pip_options(), "--target", str(folder), "--report", str(report)]
        command += [*options, "--requirement", str(requirements)]
        # `pip install --target` also checks what is installed around it, which is none of its
        # business and ends in warnings; only a failure is told.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
            said = errors[-1] if errors else done.stderr.strip()[-300:]
            raise WheelsMissing(
                f"the requirements cannot be installed (is the package index reachable?): {said}"
            )
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        canonicalize_name(wheel["metadata"]["name"]): wheel["download_info"]["archive_info"][
            "hashes"
        ]["sha256"]
        for wheel in installed
    }


def check(lock: Path, resolve: Callable[..., Digests], report: Callable[[str], None]) -> int:
    """How many of Lambda's platforms lack a wheel that `lock` wants there; a line for each."""
    lacking = 0
    with tempfile.TemporaryDirectory() as scratch:
        for runtime in LAMBDA_RUNTIMES:
            for architecture in LAMBDA_ARCHITECTURES:
                platform = Platform(runtime, architecture)
                try:
                    found = resolve(lock, Path(scratch), platform, "--dry-run")
                except WheelsMissing as missing:
                    lacking += 1
                    report(f"{runtime} {architecture}: {missing}")
                else:
                    report(f"{runtime} {architecture}: {len(found)} wheels")
    return lacking


def main() -> int:
    return 1 if check(ROOT / "requirements.txt", install, print) else 0


if __name__ == "__main__":
    sys.exit(main())

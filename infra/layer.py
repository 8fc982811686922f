"""The requirements as a zip, without what no function loads; built once per set of pins."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra import archive

#: AWS services that the functions call; botocore ships the models of four hundred.
SERVICES = frozenset({"apigatewaymanagementapi", "dynamodb", "s3", "sqs"})
#: What botocore reads whichever service is called.
SHARED_MODELS = frozenset(
    {"_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json"}
)
#: glibc of Lambda's Linux: Amazon Linux 2 up to Python 3.11, Amazon Linux 2023 after it.
_GLIBC_MINOR = 26 if sys.version_info < (3, 12) else 34
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
#: Pinned, but not for the functions: these call botocore itself and compute nothing in Arrow.
#: A test imports every module of the application from the built zip alone.
_UNUSED_LIBRARIES = ("arro3/compute", "boto3", "s3transfer")
_UNUSED_FOLDERS = (*_UNUSED_LIBRARIES, "bin", "wrapt-stubs")
_UNUSED_NAMES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "py.typed", "examples-1.json*")
_UNUSED_NAMES += ("*.cyclonedx.json", "dateutil-zoneinfo.tar.gz")
#: No function opens a WebSocket as a client, and aiohttp has the same code in Python.
_UNUSED_NAMES += ("reader_c.*.so",)
#: Installers' records. METADATA and licences stay: libraries ask for their own version.
_INSTALLER_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"})


class LayerFailed(Exception):
    """The requirements cannot be installed; the message says why in one sentence."""


def this_machine() -> str:
    """Lambda's name of this machine's architecture."""
    return "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"


def build(
    requirements: Path,
    cache: Path,
    architecture: str | None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Path of the zip, from the cache where it was built before.

    `architecture`: Lambda's, for AWS; None: for this machine and its own operating system, where
    the embedded cloud runs functions as local processes. Raises LayerFailed.
    """
    key = hashlib.sha256(requirements.read_bytes())
    key.update(Path(__file__).read_bytes())
    key.update(Path(archive.__file__).read_bytes())
    key.update(f"{sys.version} {sys.platform} {platform.machine()} {architecture}".encode())
    target = cache / f"layer-{key.hexdigest()[:20]}.zip"
    if target.exists():
        return target
    report("installing the functions' requirements (once for each set of pins)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        _install(requirements, folder, architecture)
        prune(folder)
        archive.compile_folder(folder)
        archive.write(folder, target)
    return target


def prune(folder: Path) -> None:
    """Delete what is installed beside the code that functions load."""
    for name in _UNUSED_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for entry in (folder / "botocore" / "data").glob("*"):
        if entry.is_dir() and entry.name not in SERVICES:
            shutil.rmtree(entry)
        elif entry.is_file() and entry.name not in SHARED_MODELS:
            entry.unlink()
    _trim_endpoints(folder / "botocore" / "data" / "endpoints.json")
    for name in (
        "tests",
        "test",
        "_tests",
        "setuptools*",
        "pip*",
        "pkg_resources",
        "_distutils_hack",
    ):
        for found in [path for path in folder.rglob(name) if path.is_dir()]:
            shutil.rmtree(found, ignore_errors=True)
    for pattern in _UNUSED_NAMES:
        for found in folder.rglob(pattern):
            found.unlink()
    for record in folder.glob("*.dist-info/*"):
        if record.name in _INSTALLER_FILES:
            record.unlink()


def _trim_endpoints(file: Path) -> None:
    """Leave the regions of the services that are called: a megabyte less to ship and to parse."""
    endpoints = json.loads(file.read_text(encoding="utf-8"))
    for partition in endpoints["partitions"]:
        kept = {name: entry for name, entry in partition["services"].items() if name in SERVICES}
        partition["services"] = kept
    file.write_text(json.dumps(endpoints, separators=(",", ":")), encoding="utf-8")


def _install(requirements: Path, folder: Path, architecture: str | None) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary", ":all:", "--target", str(folder)]
    command += ["--requirement", str(requirements)]
    if architecture is not None:
        command += ["--implementation", "cp"]
        command += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
        machine = _MACHINES[architecture]
        for minor in range(_GLIBC_MINOR, 16, -1):
            command += ["--platform", f"manylinux_2_{minor}_{machine}"]
        command += ["--platform", f"manylinux2014_{machine}"]
    # `pip install --target` also checks what is installed around it, which is none of its business
    # and ends in warnings; only a failure is told.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        said = errors[-1] if errors else done.stderr.strip()[-300:]
        raise LayerFailed(
            f"the requirements cannot be installed (is the package index reachable?): {said}"
        )

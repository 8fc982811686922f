"""The requirements as a zip, without what no function loads; built once per set of pins."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import archive, elf, pins, platforms, roots, wheels
from infra.platforms import Platform

#: AWS services that are called through botocore, which ships the models of four hundred.
SERVICES = frozenset({"dynamodb", "s3"})
#: What botocore reads whichever service is called.
SHARED_MODELS = frozenset(
    {"_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json"}
)
#: Pinned, but not for the functions: these call botocore itself and compute nothing in Arrow.
#: A test imports every module of the application from the built zip alone.
_UNUSED_LIBRARIES = ("arro3/compute", "boto3", "s3transfer")
_UNUSED_FOLDERS = (*_UNUSED_LIBRARIES, "bin", "wrapt-stubs", "isal/isa-l")
#: No function is a web server, runs in a browser, or compresses files.
_UNUSED_FOLDERS += ("urllib3/contrib/emscripten",)
_UNUSED_FILES = ("aiohttp/web*.py", "aiohttp/test_utils.py", "aiohttp/pytest_plugin.py")
_UNUSED_FILES += ("aiohttp/worker.py", "dateutil/rrule.py", "isal/igzip.py")
_UNUSED_FILES += ("isal/igzip_threaded.py", "idna/cli.py", "urllib3/contrib/pyopenssl.py")
_UNUSED_FILES += ("multidict/_multidict_py.py", "*botocore/stub.py", "urllib3/http2/connection.py")
#: Lists for people: zones are read from a file each.
_UNUSED_FILES += ("tzdata/zoneinfo/*.tab", "tzdata/zoneinfo/*.zi", "tzdata/zoneinfo/leap*")
_UNUSED_NAMES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "py.typed", "examples-1.json*")
_UNUSED_NAMES += ("*.cyclonedx.json", "dateutil-zoneinfo.tar.gz")
#: aiohttp is loaded for the daily export alone; it and what it loads have the same code in Python.
_UNUSED_NAMES += ("reader_c.*.so", "_http_parser.*.so", "_http_writer.*.so")
_UNUSED_NAMES += ("_quoting_c.*.so", "_helpers_c.*.so")
#: The usual roots of TLS, which botocore brings, and reads whole.
_ROOTS = "botocore/cacert.pem"
#: Installers' records. Licences stay, and METADATA without its description: libraries ask for their
#: own version.
_INSTALLER_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"})


@dataclass(frozen=True)
class Layer:
    archive: Path
    #: SHA-256 of the wheel of each package, by its name.
    digests: wheels.Digests
    #: What its modules were compiled with; None: they were not.
    interpreter: str | None


def build(
    requirements: Path,
    cache: Path,
    platform: Platform,
    report: Callable[[str], None] = lambda line: None,
) -> Layer:
    """The requirements for `platform`, from the cache where they were built before.

    Their modules are compiled if this machine has the platform's Python. Raises WheelsMissing.
    """
    interpreter = platform.interpreter()
    key = hashlib.sha256(requirements.read_bytes())
    for module in (sys.modules[__name__], archive, elf, pins, platforms, roots, wheels):
        key.update(Path(str(module.__file__)).read_bytes())
    key.update(f"{sys.version} {sys.platform} {platform} {interpreter}".encode())
    target = cache / f"layer-{key.hexdigest()[:20]}.zip"
    digests = target.with_suffix(".json")
    if target.exists() and digests.exists():
        return Layer(target, json.loads(digests.read_text(encoding="utf-8")), interpreter)
    report("installing the functions' requirements (once for each set of pins)")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        found = wheels.install(requirements, folder, platform)
        prune(folder)
        roots.write((folder / _ROOTS).read_text(encoding="utf-8"), folder / "roots")
        archive.compile_folder(folder, interpreter)
        archive.write(folder, target)
        (folder / digests.name).write_text(json.dumps(found), encoding="utf-8")
        (folder / digests.name).replace(digests)
    return Layer(target, found, interpreter)


def prune(folder: Path) -> None:
    """Delete what is installed beside the code that functions load."""
    for name in _UNUSED_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    # Their metadata too, by which the list of what ships goes.
    for name in _UNUSED_LIBRARIES:
        for metadata in folder.glob(f"{name.replace('/', '_')}-*.dist-info"):
            shutil.rmtree(metadata)
    for entry in (folder / "botocore" / "data").glob("*"):
        if entry.is_dir() and entry.name not in SERVICES:
            shutil.rmtree(entry)
        elif entry.is_file() and entry.name not in SHARED_MODELS:
            entry.unlink()
    _trim_endpoints(folder / "botocore" / "data" / "endpoints.json")
    for model in (folder / "botocore" / "data").glob("*/*/service-2.json.gz"):
        described = json.loads(gzip.decompress(model.read_bytes()), object_hook=_undocumented)
        model.write_bytes(gzip.compress(json.dumps(described).encode(), mtime=0))
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
    for pattern in _UNUSED_FILES:
        for found in folder.glob(pattern):
            found.unlink()
    for record in folder.glob("*.dist-info/*"):
        if record.name in _INSTALLER_FILES:
            record.unlink()
        elif record.name == "METADATA":
            record.write_bytes(record.read_bytes().partition(b"\n\n")[0] + b"\n")
    for library in folder.rglob("*.so"):
        library.write_bytes(elf.trimmed(library.read_bytes()))


def _undocumented(members: dict[str, Any]) -> dict[str, Any]:
    """Without what a model says for people; a member of that name is no text."""
    if isinstance(members.get("documentation"), str):
        del members["documentation"]
    return members


def _trim_endpoints(file: Path) -> None:
    """Leave the regions of the services that are called: a megabyte less to ship and to parse."""
    endpoints = json.loads(file.read_text(encoding="utf-8"))
    for partition in endpoints["partitions"]:
        kept = {name: entry for name, entry in partition["services"].items() if name in SERVICES}
        partition["services"] = kept
    file.write_text(json.dumps(endpoints, separators=(",", ":")), encoding="utf-8")

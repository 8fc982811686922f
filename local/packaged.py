"""The package that is deployed here: made anew where anything that it is made of has changed."""

from __future__ import annotations

import hashlib
import os
import sys

from chalicelib.core.errors import SettingsInvalid
from infra.configuration import user_settings
from infra.package import Package, PackagingFailed, Report, package
from infra.wheels import WheelsMissing
from local.failures import StartFailed
from local.layout import PACKAGE, ROOT
from local.options import Options

STAGE = "local"
#: What a package is made of; a change in any of it makes a new one.
_SOURCES = (
    *("app.py", "settings.toml", "requirements.txt"),
    *("chalicelib", "console", "infra", ".chalice"),
)


def current_package(options: Options, exchange_url: str, report: Report) -> tuple[Package, str]:
    """The package, made anew where anything that it is made of has changed, and the hash of that.

    Raises StartFailed.
    """
    environ = {
        **options.environ,
        "EXCHANGE_URL": exchange_url,
        "EXCHANGE": options.exchange,
    }
    built = Package(PACKAGE)
    made_from, stamp = _hash_of_sources(environ), PACKAGE.with_suffix(".made-from")
    current = stamp.exists() and stamp.read_text(encoding="utf-8") == made_from
    if current and built.archive.exists() and built.template.exists():
        return built, made_from
    stamp.unlink(missing_ok=True)
    native = options.localstack_url is None
    try:
        built = package(STAGE, PACKAGE, environ, report, for_this_machine=native)
    except (SettingsInvalid, PackagingFailed, WheelsMissing) as error:
        raise StartFailed(f"Packaging failed: {error}") from error
    stamp.write_text(made_from, encoding="utf-8")
    return built, made_from


def _hash_of_sources(environ: dict[str, str]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name, _, _ in user_settings():
        digest.update(f"{name}={environ.get(name)}\0".encode())
    for source in _SOURCES:
        path = ROOT / source
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(os.fsencode(file.relative_to(ROOT)) + b"\0" + file.read_bytes())
    return digest.hexdigest()

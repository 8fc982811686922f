"""The package of this checkout, built once per run for this machine."""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from infra.package import package


@dataclass(frozen=True)
class Built:
    """`folder` is the zip extracted, as Lambda does it before a cold start."""

    archive: Path
    folder: Path
    keeper: tempfile.TemporaryDirectory[str]


@lru_cache(maxsize=1)
def built() -> Built:
    keeper = tempfile.TemporaryDirectory(prefix="benchmark-")
    home = Path(keeper.name)
    archive = package("dev", home / "package", os.environ, for_this_machine=True).archive
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(home / "extracted")
    return Built(archive, home / "extracted", keeper)

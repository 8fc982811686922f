"""Deployment zips: the same files give the same bytes, with compiled code that Lambda accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

#: The earliest date that a zip can hold; a real one would change the bytes at every build.
_DATE = (1980, 1, 1, 0, 0, 0)


def compile_folder(folder: Path, interpreter: str | None) -> None:
    """Compile every module below `folder` with `interpreter`; None leaves it to each cold start.

    What another Python compiled there goes: Chalice imports the application, and copies all of it.

    Unchecked hashes, because entries dated 1980 make a pyc that checks its source's date stale,
    and each cold start would then compile everything again.
    """
    for compiled in [*folder.rglob("__pycache__")]:
        shutil.rmtree(compiled)
    if interpreter is None:
        return
    # In a process of its own and with a fixed seed: marshal's output depends on what the running
    # interpreter happens to have interned.
    subprocess.run(
        [
            *(interpreter, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(folder), str(folder)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
    )


def write(folder: Path, target: Path, base: Path | None = None) -> None:
    """Zip `folder` into `target`, after the entries of the zip `base`."""
    # Two may build the same at the same moment: each writes its own, and the last one stays.
    scratch = target.with_name(f"{target.name}.{os.getpid()}.part")
    if base is not None:
        shutil.copyfile(base, scratch)
    with zipfile.ZipFile(scratch, "a" if base is not None else "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if file.suffix == ".so" else 0o644) << 16
            out.writestr(entry, file.read_bytes())
    scratch.replace(target)


def unzipped_bytes(archive: Path) -> int:
    with zipfile.ZipFile(archive) as opened:
        return sum(entry.file_size for entry in opened.infolist())

"""What an embedded cloud has beside its state, and what of it may go when it has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

#: Says when the state was saved last (local/emulator.py).
SAVED = "saved.json"
#: Folder of what the functions log, as it comes (local/emulator.py, local/journal.py).
JOURNAL = "journal"
CODE = "code"


def scratch(home: Path) -> Path:
    """The temporary folder of the cloud and its functions."""
    return home / "tmp"


def tidy(home: Path) -> None:
    """Delete what an ended cloud's functions ran in, but for the newest code."""
    shutil.rmtree(scratch(home), ignore_errors=True)
    by_use = sorted(
        (home / CODE).glob("*"),
        key=lambda folder: (folder.suffix != ".part", folder.stat().st_mtime),
    )
    for folder in by_use[:-1]:
        shutil.rmtree(folder, ignore_errors=True)

"""What `requirements*.txt` lock: each package's version, the hashes of its files, and for whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HASH = re.compile(r"\s--hash=(\S+)")


@dataclass(frozen=True)
class Pin:
    requirement: Requirement
    #: As pip writes them: "sha256:" and 64 hexadecimal digits.
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    @property
    def line(self) -> str:
        """For pip, without the marker, which pip would judge for the machine that it runs on."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash={each}" for each in self.hashes)]
        )


def read(file: Path) -> list[Pin]:
    """All pins of a locked file, in its order, those for other Pythons and systems included."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return [
        Pin(Requirement(_HASH.sub("", line).strip()), tuple(_HASH.findall(line))) for line in lines
    ]


def wanted(pins: list[Pin], markers: Mapping[str, str]) -> list[Pin]:
    """The pins that count where `markers` (PEP 508) hold."""
    return [
        pin
        for pin in pins
        if pin.requirement.marker is None or pin.requirement.marker.evaluate(dict(markers))
    ]

"""The console's files: what is vendored is what its packages held, and all is small and our own."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "console"
VENDOR = FOLDER / "vendor"
OURS = [path for path in FOLDER.rglob("*.js") if path.parent != VENDOR]
#: Gzipped bytes that a browser loads until a view is drawn. The chart's library is 62,000 of them.
MOST_BYTES = 100_000
MOST_LINES = 300
_IMPORTED = r'(?:from |import |import\()"([^"]+)"'


def _recorded() -> dict[str, str]:
    text = (VENDOR / "README.md").read_text("utf-8")
    return dict(re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", text, flags=re.M))


def test_vendored_files_are_those_whose_hashes_are_recorded() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")
    }
    assert found == _recorded()


def test_every_vendored_library_has_its_licence() -> None:
    for name in ("htm", "preact", "lightweight-charts"):
        assert "Copyright" in (VENDOR / f"{name}.LICENSE.txt").read_text("utf-8")


def _loads(path: Path, found: set[Path]) -> set[Path]:
    """A module and all that it imports at once; views are loaded when they are opened."""
    if path not in found:
        found.add(path)
        for name in re.findall(_IMPORTED, path.read_text("utf-8")):
            _loads((path.parent / name).resolve(), found)
    return found


@pytest.mark.parametrize("view", [*(FOLDER / "views").glob("*.js")], ids=lambda path: path.stem)
def test_a_view_loads_few_bytes(view: Path) -> None:
    frame = {FOLDER / name for name in ("index.html", "icon.svg", "style.css")}
    served = _loads(view, _loads(FOLDER / "main.js", frame))
    assert sum(len(gzip.compress(path.read_bytes())) for path in served) <= MOST_BYTES


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_module_is_short_and_loads_only_what_is_there(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for name in re.findall(_IMPORTED, text):
        assert (path.parent / name).resolve().is_file(), name
    # The content security policy refuses what a text makes code or an attribute makes style.
    assert not re.search(r"\beval\(|new Function|innerHTML|dangerouslySet|<style| style=\"", text)


def test_the_frame_names_every_view_and_no_other() -> None:
    text = (FOLDER / "main.js").read_text("utf-8")
    named = re.findall(r'^  \w+: \["[^"]+", "(\w+)"', text, flags=re.M)
    assert sorted(named) == sorted(path.stem for path in (FOLDER / "views").glob("*.js"))

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
#: Gzipped bytes of all that a browser may load.
MOST_BYTES = 110_000
MOST_LINES = 300


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


def test_the_whole_console_is_small() -> None:
    served = [path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes())) for path in served) <= MOST_BYTES


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_module_is_short_and_loads_only_what_is_there(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for name in re.findall(r'(?:from|import) "([^"]+)"', text):
        assert (path.parent / name).resolve().is_file(), name
    # The content security policy refuses what a text makes code or an attribute makes style.
    assert not re.search(r"\beval\(|new Function|innerHTML|dangerouslySet|<style| style=\"", text)


def test_the_frame_names_every_view_and_no_other() -> None:
    text = (FOLDER / "main.js").read_text("utf-8")
    named = re.findall(r'^  \w+: \["[^"]+", "(\w+)"', text, flags=re.M)
    assert sorted(named) == sorted(path.stem for path in (FOLDER / "views").glob("*.js"))

"""The pages of the documentation site: `python -m infra.site` puts them into build/pages.

They are those of docs/ and of the repository's root, with links that fit the site, and reference
pages made from the code. `make docs` builds the site of them, into build/site.
"""

from __future__ import annotations

import os.path
import re
import shutil
from pathlib import Path, PurePosixPath

from infra import site_reference
from infra.configuration import ROOT

HOME = ROOT / "build"
#: Of the repository, besides docs/ -> where they are on the site.
OTHERS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE.txt",
}
#: What has no page of its own -> the page that stands for it.
INSTEAD = {
    "docs/README.md": "index.md",
    "docs/adr": "adr/index.md",
    "docs/events": "events/index.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)\s]*\))")
_BLOCKS = re.compile(r"(^```.*?^```)", flags=re.S | re.M)


def place(source: str) -> str:
    """Where a file of the repository is on the site. Raises ValueError where it is not."""
    found = OTHERS.get(source) or INSTEAD.get(source)
    if not found and source.startswith("docs/"):
        found = source.removeprefix("docs/")
    if not found:
        raise ValueError(f"{source} is linked, and not on the site")
    return found


def linked(text: str, source: str) -> str:
    """A page's text with its links as they are on the site."""
    folder, on_site = PurePosixPath(source).parent, PurePosixPath(place(source)).parent

    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        to = place(os.path.normpath(folder / target))
        return before + os.path.relpath(to, on_site) + after

    parts = _BLOCKS.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def write(home: Path = HOME) -> None:
    shutil.rmtree(home / "pages", ignore_errors=True)
    files = [*OTHERS, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*")))]
    for source in files:
        if (ROOT / source).is_dir() or source in INSTEAD:
            continue
        file = home / "pages" / place(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            file.write_text(linked(text, source), encoding="utf-8")
        else:
            shutil.copy(ROOT / source, file)
    for name, page in site_reference.PAGES.items():
        file = home / "pages" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(page() + "\n", encoding="utf-8")
    shutil.copy(ROOT / "infra" / "site.toml", home / "site.toml")


if __name__ == "__main__":
    write()

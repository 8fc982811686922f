"""The table of routes and scopes in docs/KEYS.md: `python -m infra.access_doc` writes it there."""

from __future__ import annotations

from pathlib import Path

from chalicelib.access.scopes import OPEN, SCOPES, allowed
from chalicelib.api import routes, web
from infra.configuration import ROOT

PAGE = ROOT / "docs" / "KEYS.md"
BEGIN, END = "<!-- scopes: begin -->\n", "<!-- scopes: end -->\n"


def table() -> str:
    assert routes.MODULES, "importing them registers the routes"
    lines = [
        f"| route | no key | {' | '.join(f'`{scope}`' for scope in SCOPES)} |",
        "|---|" + "---|" * (1 + len(SCOPES)),
    ]
    for method, path in sorted(web.SCOPES, key=lambda route: (route[1], route[0])):
        wanted = web.SCOPES[method, path]
        opens = ["yes" if OPEN in wanted else "401"]
        for scope in SCOPES:
            may = OPEN in wanted or not allowed([scope]).isdisjoint(wanted)
            opens.append("yes" if may else "403")
        lines.append(f"| `{method} {path}` | {' | '.join(opens)} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A page with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(page: Path = PAGE) -> None:
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

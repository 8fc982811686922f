"""Tables of the documentation that are made from the code: `python -m infra.tables_doc` writes all
of them into their pages, between marks like `<!-- metrics: begin -->`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from chalicelib.access.scopes import OPEN, SCOPES, allowed
from chalicelib.api import routes, web
from chalicelib.core.metrics import METRICS
from chalicelib.webhooks.addresses import REFUSED, REFUSED_NAMES
from infra.configuration import ROOT

DOCS = ROOT / "docs"


def scopes() -> Iterator[str]:
    """Which scope opens which route."""
    assert routes.MODULES, "importing them registers the routes"
    yield f"| route | no key | {' | '.join(f'`{scope}`' for scope in SCOPES)} |"
    yield "|---|" + "---|" * (1 + len(SCOPES))
    for method, path in sorted(web.SCOPES, key=lambda route: (route[1], route[0])):
        wanted = web.SCOPES[method, path]
        opens = ["yes" if OPEN in wanted else "401"]
        for scope in SCOPES:
            may = OPEN in wanted or not allowed([scope]).isdisjoint(wanted)
            opens.append("yes" if may else "403")
        yield f"| `{method} {path}` | {' | '.join(opens)} |"


def metrics() -> Iterator[str]:
    yield "| metric | unit | dimensions | what it says |"
    yield "|---|---|---|---|"
    for name, metric in sorted(METRICS.items()):
        sets = []
        if metric.total or not metric.dimensions:
            sets.append("`Stack`")
        if metric.dimensions:
            sets.append("`" + ", ".join(("Stack", *metric.dimensions)) + "`")
        yield f"| `{name}` | {metric.unit} | {' and '.join(sets)} | {metric.about} |"


def addresses() -> Iterator[str]:
    """Classes of addresses to which no webhook goes."""
    yield "| class | networks | why |"
    yield "|---|---|---|"
    for entry in REFUSED:
        networks = ", ".join(f"`{network}`" for network in entry.networks)
        yield f"| {entry.name} | {networks} | {entry.why} |"


def names() -> Iterator[str]:
    """Names to which no webhook goes."""
    yield "| name | why |"
    yield "|---|---|"
    for name, why in REFUSED_NAMES.items():
        yield f"| `{name}`, `*.{name}` | {why} |"


#: Page -> the tables in it, each between marks of its function's name.
TABLES: dict[str, tuple[Callable[[], Iterator[str]], ...]] = {
    "KEYS.md": (scopes,),
    "OBSERVABILITY.md": (metrics,),
    "WEBHOOKS.md": (addresses, names),
}


def between_marks(text: str, name: str, lines: Iterator[str] | list[str]) -> str:
    """A page with these lines between the marks of a name. Raises ValueError where the page does
    not have them once."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page has no place for {name}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after


def with_tables(page: str, text: str) -> str:
    """The text of a page with its tables as the code has them now."""
    for table in TABLES[page]:
        text = between_marks(text, table.__name__, table())
    return text


def main(docs: Path = DOCS) -> None:
    for page in TABLES:
        file = docs / page
        file.write_text(with_tables(page, file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

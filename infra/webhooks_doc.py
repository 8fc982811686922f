"""The tables of docs/WEBHOOKS.md: `python -m infra.webhooks_doc` writes them there.

They list what a webhook may not go to: classes of addresses, and names.
"""

from __future__ import annotations

from pathlib import Path

from chalicelib.webhooks.addresses import REFUSED, REFUSED_NAMES
from infra.configuration import ROOT

PAGE = ROOT / "docs" / "WEBHOOKS.md"


def addresses_table() -> str:
    lines = ["| class | networks | why |", "|---|---|---|"]
    for entry in REFUSED:
        networks = ", ".join(f"`{network}`" for network in entry.networks)
        lines.append(f"| {entry.name} | {networks} | {entry.why} |")
    return "\n".join(lines) + "\n"


def names_table() -> str:
    lines = ["| name | why |", "|---|---|"]
    lines += [f"| `{name}`, `*.{name}` | {why} |" for name, why in REFUSED_NAMES.items()]
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """A page with the tables between their marks, like `<!-- addresses: begin -->`."""
    for name, table in (("addresses", addresses_table()), ("names", names_table())):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def main(page: Path = PAGE) -> None:
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

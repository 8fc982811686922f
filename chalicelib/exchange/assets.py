"""Base and quote assets of all symbols, in the form in which the catalogue's item holds them. Pure.

JSON of {quote asset: [base asset, ...]}, because nearly every name is the one behind the other:
half the size of naming each symbol. An entry is [symbol, base asset] where the name is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Grouped = dict[str, list[str | list[str]]]


def grouped(assets: Mapping[str, Sequence[str]]) -> Grouped:
    """`assets`: symbol -> base and quote asset."""
    found: Grouped = {}
    for name, (base, quote) in sorted(assets.items()):
        found.setdefault(quote, []).append(base if name == base + quote else [name, base])
    return found


def ungrouped(groups: Mapping[str, Sequence[str | Sequence[str]]]) -> dict[str, tuple[str, str]]:
    """The other way round."""
    found: dict[str, tuple[str, str]] = {}
    for quote, entries in groups.items():
        for entry in entries:
            name, base = (entry + quote, entry) if isinstance(entry, str) else entry
            found[name] = (base, quote)
    return found

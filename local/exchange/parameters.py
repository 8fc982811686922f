"""Reading of query parameters, as strict as Binance's.

Unlike other web servers it refuses what it does not know (-1104), what is sent twice (-1101),
what is empty (-1105) and characters outside a parameter's legal range (-1100).
"""

import json
import re
from collections.abc import Mapping

from local.exchange.errors import ApiError, illegal, missing, unread

_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"  # as the exchange prints it: Java's syntax
_SYMBOL_HERE = re.compile(r"(?!.*[a-z])[\w\-.]{1,50}")
_NUMBER = r"^[0-9]{1,20}$"


def read(query: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The parameters sent, checked against the `names` that an endpoint knows.

    `query` may hold a name more than once. Raises ApiError -1101, -1104 or -1105.
    """
    sent = list(query.items())
    given = dict(sent)
    for name, _ in sent:
        if sum(other == name for other, _ in sent) > 1:
            raise ApiError(-1101, f"Duplicate values for parameter '{name}' detected.")
    known = [name for name in given if name in names]
    if len(known) < len(given):
        raise unread(len(known), len(given))
    for name, value in given.items():
        if not value:
            raise (
                missing(name)
                if name == "symbol"
                else ApiError(-1105, f"Parameter '{name}' was empty.")
            )
    return given


def symbol_name(given: Mapping[str, str]) -> str:
    """The mandatory parameter `symbol`. Raises ApiError -1100 or -1102."""
    if "symbol" not in given:
        raise missing("symbol")
    return _legal_symbol("symbol", given["symbol"])


def symbol_names(given: Mapping[str, str]) -> list[str] | None:
    """The names in `symbol` or `symbols`, None without either.

    Raises ApiError -1100 for a malformed list and -1128 when both are sent.
    """
    if "symbol" in given and "symbols" in given:
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    if "symbol" in given:
        return [symbol_name(given)]
    if "symbols" not in given:
        return None
    legal = r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$'
    try:
        names = json.loads(given["symbols"])
    except json.JSONDecodeError:
        raise illegal("symbols", legal) from None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise illegal("symbols", legal)
    return [_legal_symbol("symbols", name) for name in names]


def whole_number(given: Mapping[str, str], name: str) -> int | None:
    """An optional non-negative integer. Raises ApiError -1100."""
    text = given.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
        raise illegal(name, _NUMBER)
    return int(text)


def page_limit(given: Mapping[str, str]) -> int:
    """`limit`: 500 when absent; more than 1000 counts as 1000. Raises ApiError -1100, -1130."""
    limit = whole_number(given, "limit")
    if limit is None:
        return 500
    if limit == 0:
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, 1000)


def _legal_symbol(parameter: str, name: str) -> str:
    if not _SYMBOL_HERE.fullmatch(name):
        raise illegal(parameter, _SYMBOL)
    return name

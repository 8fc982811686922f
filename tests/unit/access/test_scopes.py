"""What scopes allow."""

from __future__ import annotations

import pytest

from chalicelib.access.scopes import SCOPES, allowed


@pytest.mark.parametrize(
    ("held", "found"),
    [
        (["read"], {"read"}),
        (["collect"], {"read", "collect"}),
        (["observe"], {"observe"}),
        (["admin"], set(SCOPES)),
        (["read", "observe"], {"read", "observe"}),
        (["open"], set()),
        (["of a later version"], set()),
        ([], set()),
    ],
)
def test_a_scope_allows_what_it_stands_for_and_nothing_else(
    held: list[str], found: set[str]
) -> None:
    assert allowed(held) == found

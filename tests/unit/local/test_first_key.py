"""The first admin's key: made once, and again where no admin's key works any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.access import key as items
from chalicelib.access.key import Key
from chalicelib.aws.stream import Change
from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.events.happenings import of_change
from local.first_key import admin_key, first_admin_key

OUTPUTS = {"KeysTable": "keys"}
ADMIN, TEXT = items.made("boss", ("admin",), 1, "deployer")


class Table:
    """An account whose Keys table holds some keys, one a page."""

    def __init__(self, *keys: Key) -> None:
        self.items = [item_to_wire(items.item_of(key)) for key in keys]

    def client(self, service: str) -> Any:
        assert service == "dynamodb"
        return self

    def get_paginator(self, name: str) -> Table:
        assert name == "query"
        return self

    def paginate(self, TableName: str, **asked: Any) -> Any:
        assert (TableName, asked["ConsistentRead"]) == ("keys", True)
        return [{"Items": [item]} for item in self.items] or [{"Items": []}]

    def put_item(self, TableName: str, Item: dict[str, Any]) -> None:
        assert TableName == "keys"
        self.items.append(Item)


def test_the_first_deployment_makes_a_key_that_fits_and_the_next_makes_none() -> None:
    table = Table()
    text = first_admin_key(table, "keys", OUTPUTS)  # type: ignore[arg-type]
    parsed = items.parse(text or "")
    [stored] = [items.key_of(item_from_wire(item)) for item in table.items]
    assert parsed is not None
    assert parsed[0] == stored.key_id
    assert items.fits(stored, parsed[1])
    item = item_from_wire(table.items[0])
    [created] = of_change(Change("1", 0, {}, item, False))
    assert (created.action, created.by, created.owner) == ("key.created", "deployer", "admin")
    assert stored.scopes == ("admin",)
    assert first_admin_key(table, "keys", OUTPUTS) is None  # type: ignore[arg-type]
    assert len(table.items) == 1


@pytest.mark.parametrize(
    ("keys", "makes"),
    [
        ([ADMIN], False),
        ([replace(ADMIN, revoked_at=1)], True),
        ([replace(ADMIN, expires_at=2)], True),
        ([replace(ADMIN, scopes=("collect", "read"))], True),
        ([replace(ADMIN, revoked_at=1), replace(ADMIN, key_id="0" * 16)], False),
    ],
)
def test_a_key_is_made_where_no_admins_key_works(keys: list[Key], makes: bool) -> None:
    text = first_admin_key(Table(*keys), "keys", OUTPUTS)  # type: ignore[arg-type]
    assert (text is not None) == makes


@pytest.mark.parametrize(
    ("change", "known", "is_kept"),
    [
        ({}, TEXT, True),
        ({}, None, False),
        ({}, "no key", False),
        ({}, TEXT[:-1] + ("A" if TEXT[-1] != "A" else "B"), False),
        ({"secret_hash": "0" * 64}, TEXT, False),
        ({"revoked_at": 1}, TEXT, False),
        ({"expires_at": 2}, TEXT, False),
        ({"scopes": ("collect",)}, TEXT, False),
        ({"key_id": "0" * 16}, TEXT, False),
    ],
    ids=range(9),  # not the key itself, which is another in each run
)
def test_a_known_key_is_kept_while_it_works_for_an_admin_or_else_another_is_made(
    change: dict[str, Any], known: str | None, is_kept: bool
) -> None:
    table = Table(replace(ADMIN, **change))
    text = admin_key(table, "keys", OUTPUTS, known)  # type: ignore[arg-type]
    assert (text == known, len(table.items)) == ((True, 1) if is_kept else (False, 2))
    assert admin_key(table, "keys", OUTPUTS, text) == text  # type: ignore[arg-type]


@pytest.mark.parametrize("authentication", ["iam", "none"])
def test_none_is_made_where_keys_are_not_asked_for(authentication: str) -> None:
    table = Table()
    assert first_admin_key(table, authentication, OUTPUTS) is None  # type: ignore[arg-type]
    assert admin_key(table, authentication, OUTPUTS, TEXT) is None  # type: ignore[arg-type]
    assert not table.items

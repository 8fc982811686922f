"""The Keys table on a real endpoint."""

from __future__ import annotations

import pytest

from chalicelib.access import key as items
from chalicelib.access.key_table import KeyTable
from chalicelib.aws.calls import run
from chalicelib.core.errors import ConditionFailed
from tests.aws.endpoint import Endpoint
from tests.doubles.clock import NOW
from tests.doubles.settings import backend_of


@pytest.fixture
def table(endpoint: Endpoint) -> KeyTable:
    return KeyTable(backend_of(endpoint.signed, keys_table=endpoint.new_table("KeysTable")))


def test_a_key_is_added_once_rotated_once_and_revoked_for_good(table: KeyTable) -> None:
    key, _ = items.made("me", ("read",), NOW, "boss")
    run(table.add(key))
    (one, _), (other, _) = items.rotated(key, NOW + 1, "a"), items.rotated(key, NOW + 1, "b")
    assert run(table.replace_secret(key, one)) == one
    assert run(table.replace_secret(key, one)) == one  # sent again, as its answer was lost
    with pytest.raises(ConditionFailed):
        run(table.replace_secret(key, other))
    revoked = run(table.revoke(key.key_id, NOW + 2, "boss"))
    assert revoked is not None
    assert revoked.revoked_at == NOW + 2
    assert run(table.revoke(key.key_id, NOW + 3, "else")) == revoked == run(table.read(key.key_id))
    with pytest.raises(ConditionFailed):
        run(table.replace_secret(one, items.rotated(one, NOW + 4, "b")[0]))
    assert run(table.revoke("0" * 16, NOW, "boss")) is None
    assert run(table.read("0" * 16)) is None


def test_a_use_is_noted_where_the_last_is_old_enough(table: KeyTable) -> None:
    key, _ = items.made("me", ("read",), NOW, "boss")
    run(table.add(key))
    for at, before, noted in ((10, 5, 10), (12, 9, 10), (20, 10, 20)):
        run(table.note_use(key.key_id, NOW + at, NOW + before))
        found = run(table.read(key.key_id))
        assert found is not None
        assert found.last_used_at == NOW + noted
    run(table.note_use("0" * 16, NOW, NOW))
    assert run(table.read("0" * 16)) is None


def test_keys_are_paged_by_id(table: KeyTable) -> None:
    made = sorted(
        (items.made(f"owner-{number % 2}", ("read",), NOW, "boss")[0] for number in range(5)),
        key=lambda key: key.key_id,
    )
    for key in made:
        run(table.add(key))
    first, following = run(table.page(3, None))
    second, end = run(table.page(3, following))
    assert (first + second, end) == (made, None)
    assert run(table.owners()) == {"owner-0", "owner-1"}

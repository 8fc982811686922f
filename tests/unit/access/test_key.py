"""A key's text and its item."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.access import key as items
from chalicelib.access.key import Key
from chalicelib.aws.wire import item_from_wire, item_to_wire

NEW, TEXT = items.made("me", ("read", "collect", "read"), 1, "boss")
FULL = replace(
    NEW,
    expires_at=2,
    rotated_at=3,
    rotated_by="boss",
    last_used_at=4,
    revoked_at=5,
    revoked_by="boss",
    request_id="r",
)


def test_what_is_stored_comes_back() -> None:
    for key in (NEW, FULL):
        assert items.key_of(item_from_wire(item_to_wire(items.item_of(key)))) == key
    assert not [field.name for field in fields(Key) if getattr(FULL, field.name) is None]


def test_the_secret_is_in_the_text_alone() -> None:
    key_id, secret = items.parse(TEXT) or ("", "")
    assert key_id == NEW.key_id
    assert secret not in str(items.item_of(NEW)) + str(items.view(NEW, 1))
    assert NEW.secret_hash not in str(items.view(NEW, 1))
    assert items.fits(NEW, secret)
    assert not items.fits(None, secret)


def test_every_secret_is_another_one() -> None:
    assert len({items.made("me", ("read",), 1, "boss")[1] for _ in range(100)}) == 100
    assert items.rotated(NEW, 2, "boss")[1] != TEXT


@settings(deadline=None)
@given(at=st.integers(0, len(TEXT) - 1), char=st.characters(codec="utf-8"))
def test_a_text_with_one_other_character_does_not_fit(at: int, char: str) -> None:
    changed = TEXT[:at] + char + TEXT[at + 1 :]
    parsed = items.parse(changed)
    if changed != TEXT and parsed is not None:
        assert parsed[0] != NEW.key_id or not items.fits(NEW, parsed[1])


@settings(deadline=None)
@given(st.text(max_size=80))
def test_what_is_no_key_is_not_read_as_one(text: str) -> None:
    assert items.parse(text) is None


def test_a_key_ends_at_its_expiry_or_when_it_is_revoked() -> None:
    until = replace(NEW, expires_at=10)
    assert until.is_alive(9)
    assert not until.is_alive(10)
    assert not replace(NEW, revoked_at=1).is_alive(0)

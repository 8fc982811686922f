"""What happened to API keys: made, rotated, revoked. Pure.

Nothing of a secret is told, not even its hash. That a key was used is no event.
"""

from __future__ import annotations

from chalicelib.access.key import Key, key_change
from chalicelib.aws.stream import Change
from chalicelib.core.times import iso
from chalicelib.events.happening import SYSTEM, Happening


def of_key(change: Change) -> list[Happening]:
    """The key.created, key.rotated or key.revoked happening, or both of the latter."""
    changed = key_change(change)
    if changed is None:
        return []
    old, new = changed
    if old is None:
        return [_happening("key.created", new.created_by, None, new, change.at_ms)]
    found = []
    if old.secret_hash != new.secret_hash:
        found.append(_happening("key.rotated", new.rotated_by, old, new, change.at_ms))
    if old.revoked_at is None and new.revoked_at is not None:
        found.append(_happening("key.revoked", new.revoked_by, old, new, change.at_ms))
    return found


def _happening(action: str, by: str | None, old: Key | None, new: Key, at_ms: int) -> Happening:
    return Happening(
        subject=f"key:{new.key_id}",
        action=action,
        by=by or SYSTEM,
        request_id=new.request_id,
        before=old.status(at_ms) if old else None,
        after=new.status(at_ms),
        detail=f"{', '.join(new.scopes)}, for {new.owner}",
        data={"scopes": list(new.scopes), "expires_at": iso(new.expires_at)},
        owner=new.owner,
    )

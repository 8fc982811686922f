"""Who calls: an owner, and what they may do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.access import keys
from chalicelib.access.key_table import KeyTable
from chalicelib.access.scopes import ADMIN, COLLECT, OBSERVE, READ, SCOPES, allowed
from chalicelib.core.backend import Backend
from chalicelib.core.errors import Forbidden, Unauthenticated
from chalicelib.tasks.states import SHARED_OWNER

#: The ARN of a role that somebody has assumed ends in the session's name, which many tools make
#: anew each time: the owner is the role. Source: IAM User Guide, "IAM identifiers", assumed roles.
_SESSION = re.compile(r"(arn:[^:]*:sts::[^:]*:assumed-role/[^/]+)/.*")
#: A role's own ARN holds its path, that of who assumed it does not. Names are unique all the same:
#: IAM API Reference, CreateRole.
_ROLE = re.compile(r"arn:([^:]*):iam::([^:]*):role/(?:.*/)?([^/]+)")
#: Who may call which route is said by policies of IAM (execute-api:Invoke names method and path).
#: None of them makes an admin, who would see what others own: that does the setting ADMIN_ROLES.
_SIGNED = frozenset((READ, COLLECT, OBSERVE))


@dataclass(frozen=True)
class Caller:
    """`owner`: whose tasks they make and see; `scopes`: all that they are allowed (access/scopes);
    `key_id`: the key that they came with, None where requests come without keys."""

    owner: str
    scopes: frozenset[str]
    key_id: str | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Caller:
        """The caller whom a stored row names, with the fields of `row`."""
        return cls(str(row["owner"]), frozenset(row.get("scopes", ())), row.get("key_id"))

    @property
    def row(self) -> dict[str, Any]:
        """The fields owner, scopes and, where there is a key, key_id."""
        row: dict[str, Any] = {"owner": self.owner, "scopes": sorted(self.scopes)}
        return row if self.key_id is None else {**row, "key_id": self.key_id}

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """Whose tasks they see; None: everybody's."""
        return None if self.is_admin else self.owner

    def require(self, *scopes: str) -> None:
        """Raises Forbidden where none of these scopes is allowed."""
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(scopes, has_key=self.key_id is not None)


#: Where nobody is asked, there is one owner.
NOBODY_ASKED = Caller(SHARED_OWNER, allowed(SCOPES))


async def owners_seen(backend: Backend, caller: Caller) -> tuple[str, ...]:
    """Everybody whose schedules, and whose tasks in lists, a caller sees; sorted.

    For an admin with a key: whoever has or had one, and the shared owner, whose are the tasks that
    were made while nobody was asked. Owners who sign requests are listed nowhere, so an admin among
    them has lists of their own.
    """
    if not caller.is_admin or caller.key_id is None:
        return (caller.owner,)
    return tuple(sorted({SHARED_OWNER, caller.owner, *await KeyTable(backend).owners()}))


async def identify(backend: Backend, authorization: str, identity: Mapping[str, Any]) -> Caller:
    """Who sends a request, as the setting AUTHENTICATION says.

    `authorization`: the request's header, "" where it has none; `identity`: what API Gateway says
    of the caller (requestContext.identity). Raises Unauthenticated, CallFailed.
    """
    authentication = backend.settings.authentication
    if authentication == "none":
        return NOBODY_ASKED
    if authentication == "iam":
        return _signed(identity.get("userArn"), backend.settings.admin_roles)
    key = await keys.verify(backend, authorization)
    return Caller(key.owner, allowed(key.scopes), key.key_id)


def _signed(arn: object, admin_roles: Iterable[str]) -> Caller:
    if not isinstance(arn, str) or not arn:
        raise Unauthenticated(
            "sign the request with AWS credentials",
            reason="NOT_SIGNED",
            challenge="AWS4-HMAC-SHA256",
        )
    session = _SESSION.fullmatch(arn)
    owner = session[1] if session else arn
    is_admin = owner in (_ROLE.sub(r"arn:\1:sts::\2:assumed-role/\3", role) for role in admin_roles)
    return Caller(owner, allowed(SCOPES) if is_admin else _SIGNED)

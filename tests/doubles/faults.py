"""Hooks for the simulated AWS: die at a call, lose an answer, let something happen in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chalicelib.core.errors import CallFailed
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.fleet import Crash


class CrashAfter(Hook):
    """The process dies right after its `number`th call (from 1), whose effect stays."""

    def __init__(self, number: int) -> None:
        self.left = number

    async def after(self, called: Called) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash(called.name)


class LoseAnswer(Hook):
    """The answer of the `number`th call of `name` is lost, though the call was applied."""

    def __init__(self, name: str, number: int = 1) -> None:
        self.name = name
        self.left = number

    async def after(self, called: Called) -> None:
        if called.name == self.name:
            self.left -= 1
            if self.left == 0:
                raise CallFailed(called.service, called.operation, "ConnectionError", "no answer")


class Refuse(Hook):
    """The next `times` calls of `name` fail without being applied."""

    def __init__(self, name: str, times: int = 1) -> None:
        self.name = name
        self.times = times

    async def before(self, called: Called) -> None:
        if called.name == self.name and self.times:
            self.times -= 1
            raise CallFailed(called.service, called.operation, "InternalServerError", "refused")


class Meanwhile(Hook):
    """Before the `number`th call for which `chosen` is true, someone else does `action`."""

    def __init__(
        self,
        chosen: Callable[[Called], bool],
        action: Callable[[], Awaitable[object]],
        number: int = 1,
    ) -> None:
        self.chosen = chosen
        self.action = action
        self.left = number

    async def before(self, called: Called) -> None:
        if self.left and self.chosen(called):
            self.left -= 1
            if self.left == 0:
                await self.action()


class AppliedTwice(Hook):
    """The first call for which `chosen` is true is sent twice: the first answer was lost."""

    def __init__(self, aws: Aws, chosen: Callable[[Called], bool]) -> None:
        self.aws = aws
        self.chosen = chosen
        self.done = False

    async def before(self, called: Called) -> None:
        if not self.done and self.chosen(called):
            self.done = True
            await self.aws(called.service, called.operation, **called.parameters)


def is_update_of(sort_key: str) -> Callable[[Called], bool]:
    """Whether a call updates an item whose sort key starts so, in a transaction or not."""

    def chosen(called: Called) -> bool:
        updates = [part.get("Update") for part in called.parameters.get("TransactItems", ())]
        if called.operation == "UpdateItem":
            updates.append(called.parameters)
        keys = [update["Key"].get("sk", {}).get("S", "") for update in updates if update]
        return any(key.startswith(sort_key) for key in keys)

    return chosen


def named(name: str, about: str = "") -> Callable[[Called], bool]:
    """Whether a call is of an operation, and its parameters name something."""
    return lambda called: called.name == name and about in str(called.parameters)

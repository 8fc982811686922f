"""Files of the exchange's bulk archive that were not used for a task, named on its META item.

`passed_over` holds "<file> <reason>", MOST_FILES of them and what workers that write at once add.
A name is added outside the fence: it says what was tried, and counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.task_keys import META, item_key

#: No file's name has a space.
_SPACE = " "
MOST_FILES = 20


class PassedOverFiles(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    async def add(self, task_id: str, attempt: int, files: Iterable[tuple[str, str]]) -> None:
        """Name files, each with the reason why it was not used, where there is room for them."""
        named = {f"{file}{_SPACE}{reason}" for file, reason in sorted(files)[:MOST_FILES]}
        if not named:
            return
        try:
            await self._update(
                item_key(task_id, META),
                UpdateExpression="ADD passed_over :files",
                ConditionExpression="attempt = :attempt AND "
                "(attribute_not_exists(passed_over) OR size(passed_over) < :most)",
                ExpressionAttributeValues={
                    ":files": to_wire(named),
                    ":attempt": to_wire(attempt),
                    ":most": to_wire(MOST_FILES),
                },
            )
        except ConditionFailed:
            return  # enough are named, or the attempt is over


def files_in(passed_over: Iterable[str]) -> list[dict[str, str]]:
    """The files that a task names, as GET /task/{id} shows them."""
    pairs = (text.rpartition(_SPACE) for text in sorted(passed_over))
    return [{"file": file, "reason": reason} for file, _, reason in pairs]

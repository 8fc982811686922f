"""What all operations of a client share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from market_data_collector.calls import Site, When, time
from market_data_collector.errors import not_this_api

#: One name or several.
Names = str | Sequence[str]
J = TypeVar("J")


class Described(ABC, Generic[J]):
    """`J`: what is returned for a task that was submitted."""

    _site: Site

    @property
    def url(self) -> str:
        """Where the API is, without a password."""
        return self._site.url

    @abstractmethod
    def job(self, task_id: str, answer: dict[str, Any] | None = None) -> J:
        """A task that exists already; nothing is sent."""

    def _submitted(self, answer: dict[str, Any]) -> J:
        task_id = answer.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise not_this_api(self.url, "it accepted the task but gave no task_id")
        return self.job(task_id, answer)


def names(given: Names | None, what: str) -> list[str] | None:
    """One name as a list of it. Raises ValueError for an empty list: "these" must not become
    "all"."""
    found = [given] if isinstance(given, str) else None if given is None else [*given]
    if found == []:
        raise ValueError(f"the list of {what} is empty; leave it out to mean all of them")
    return found


def collection(
    symbols: Names | None,
    timeframes: Names | None,
    start: When,
    end: When,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The body of a request for a collection, without what is not given."""
    body = {
        "symbols": names(symbols, "symbols"),
        "timeframes": names(timeframes, "timeframes"),
        "start": time(start),
        "end": time(end),
        **options,
    }
    return {name: value for name, value in body.items() if value is not None}

"""The limits of each owner: their names, their settings, and the answer where one is reached. Pure.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11 ("RateLimit header fields for
HTTP"): RateLimit-Policy says how much there is, RateLimit how much is left.
"""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.core.errors import QuotaExceeded
from chalicelib.core.settings import Settings


class Quota(NamedTuple):
    """One limit of an owner. `unit`: what is counted; `window_seconds`: None where it is counted
    what there is at a time."""

    #: As in GET /status and in the RateLimit fields; the reason of a refusal is made of it.
    name: str
    unit: str
    window_seconds: int | None = None

    def limit(self, settings: Settings) -> int:
        """How much an owner may have; 0: no limit."""
        limit: int = getattr(settings, f"owner_{self.name}")
        return limit

    def exceeded(self, settings: Settings, detail: str, retry_after: int) -> QuotaExceeded:
        """`retry_after`: seconds after which asking again makes sense."""
        limit = self.limit(settings)
        return QuotaExceeded(
            detail,
            reason=f"QUOTA_{self.name.upper()}",
            retry_after=retry_after,
            headers=self.headers(limit, 0, retry_after),
        )

    def headers(self, limit: int, left: int, resets_seconds: int) -> dict[str, str]:
        """The RateLimit fields where `left` of `limit` is left, for so many seconds."""
        unit = "" if self.unit == "requests" else f';qu="{self.unit}"'
        window = "" if self.window_seconds is None else f";w={self.window_seconds}"
        return {
            "RateLimit-Policy": f'"{self.name}";q={limit}{unit}{window}',
            "RateLimit": f'"{self.name}";r={left};t={resets_seconds}',
        }


ACTIVE_TASKS = Quota("active_tasks", "tasks")
UNITS_PER_DAY = Quota("units_per_day", "units", 86_400)
SCHEDULES = Quota("schedules", "schedules")
CONNECTIONS = Quota("connections", "connections")
REQUESTS_PER_SECOND = Quota("requests_per_second", "requests", 1)
WEBHOOKS_PER_MINUTE = Quota("webhooks_per_minute", "deliveries", 60)


def owner_pk(owner: str) -> str:
    """The partition, of the Tasks and of the Connections table, that counts what an owner uses."""
    return f"OWNER#{owner}"

"""What an owner may use, and what of it is used: a part of GET /status."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.times import DAY, MINUTE, iso
from chalicelib.quotas import limits
from chalicelib.quotas.limits import Quota
from chalicelib.quotas.places import Places
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks.quotas import units_today
from chalicelib.webhooks.restraint import Restraint


async def limits_of(backend: Backend, owner: str, active_tasks: int) -> dict[str, Any]:
    """Each limit of an owner by its name: `limit` and `used`, and `resets_at` of what is counted
    anew.

    Null where there is no limit: nothing is counted then. Requests are counted by each container
    for itself, so `used` is null. Of connections that broke off, some may be counted for two hours.
    """
    now_ms, settings = backend.now_ms(), backend.settings

    def shown(quota: Quota, used: int | None, every_ms: int | None = None) -> dict[str, Any]:
        limit = quota.limit(settings)
        resets = {"resets_at": iso((now_ms // every_ms + 1) * every_ms)} if every_ms else {}
        return {"limit": limit, "used": used, **resets} if limit else {"limit": None, "used": None}

    units = await units_today(backend, owner) if limits.UNITS_PER_DAY.limit(settings) else 0
    deliveries = 0
    if limits.WEBHOOKS_PER_MINUTE.limit(settings):
        deliveries = await Restraint(backend, owner).sent(now_ms)
    found = {
        limits.ACTIVE_TASKS: shown(limits.ACTIVE_TASKS, active_tasks),
        limits.UNITS_PER_DAY: shown(limits.UNITS_PER_DAY, units, DAY),
        limits.SCHEDULES: shown(limits.SCHEDULES, await _schedules(backend, owner)),
        limits.CONNECTIONS: shown(limits.CONNECTIONS, await _connections(backend, owner)),
        limits.REQUESTS_PER_SECOND: shown(limits.REQUESTS_PER_SECOND, None),
        limits.WEBHOOKS_PER_MINUTE: shown(limits.WEBHOOKS_PER_MINUTE, deliveries, MINUTE),
    }
    return {quota.name: entry for quota, entry in found.items()}


async def _schedules(backend: Backend, owner: str) -> int:
    most = limits.SCHEDULES.limit(backend.settings)
    return len((await ScheduleTable(backend).page_of_owner(owner, most, None))[0]) if most else 0


async def _connections(backend: Backend, owner: str) -> int:
    if not limits.CONNECTIONS.limit(backend.settings):
        return 0
    table = backend.settings.connections_table
    # API Gateway ends a connection after two hours.
    opened_after = backend.now_ms() - 2 * 60 * MINUTE
    places = await Places(backend.call, table, owner).read()
    return sum(place.taken_at > opened_after for place in places)

"""Operations that look after a collector: schedules, the audit trail, pause, keys."""

from typing import TypedDict, Unpack

from market_data_collector.answers import (
    AuditEvent,
    DeletedSchedule,
    Key,
    PauseOrdered,
    Schedule,
    ScheduleChange,
    ScheduledCollection,
    ScheduleOptions,
    Scope,
    ShownKey,
)
from market_data_collector.calls import When, entries, get, once, post, segment, time
from market_data_collector.described import Described, J
from market_data_collector.effects import Flow, Plan
from market_data_collector.operation import operation, stream


class AuditFilters(TypedDict, total=False):
    """Whose trail, and which actions of it."""

    task_id: str | None
    schedule_id: str | None
    exchange: str | None
    key_id: str | None
    to: When
    action: str | None
    page_size: int | None
    page_token: str | None


class Managing(Described[J]):
    @operation
    def create_schedule(
        self,
        expression: str,
        request: ScheduledCollection | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Plan[Schedule]:
        """Collects by itself: `expression` is "rate(5 minutes)" or "cron(0 6 * * ? *)".

        >>> made = Client().create_schedule(
        ...     "rate(1 hour)", {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}, name="hourly"
        ... )
        >>> made["enabled"], made["name"]
        (True, 'hourly')
        """
        body = {"expression": expression, "request": request or {}, **options}
        return post(self._site, "/schedules", body, idempotency_key)

    @stream
    def schedules(self, page_size: int | None = None) -> Flow[Schedule]:
        """Every schedule."""
        return entries(self._site, "/schedules", "schedules", {"page_size": page_size})

    @operation
    def schedule(self, schedule_id: str) -> Plan[Schedule]:
        """One schedule: its runs, and how fresh its candles are."""
        return get(self._site, _schedule(schedule_id))

    @operation
    def change_schedule(
        self, schedule_id: str, **changes: Unpack[ScheduleChange]
    ) -> Plan[Schedule]:
        """The schedule with other values."""
        return once(self._site, "PATCH", _schedule(schedule_id), {**changes})

    @operation
    def delete_schedule(self, schedule_id: str) -> Plan[DeletedSchedule]:
        """Deletes a schedule; its tasks stay."""
        return once(self._site, "DELETE", _schedule(schedule_id))

    @operation
    def run_schedule(self, schedule_id: str) -> Plan[J]:
        """Runs a schedule at once, whatever its expression says."""
        answer = yield from post(self._site, f"{_schedule(schedule_id)}/run", {})
        return self._submitted(answer)

    @stream
    def audit(self, from_: When = None, **filters: Unpack[AuditFilters]) -> Flow[AuditEvent]:
        """What happened, who did it and when; without a task, schedule, market or key, and without
        `from_`, of the last day."""
        return entries(self._site, "/audit", "events", {"from": from_, **filters})

    @operation
    def pause(self, duration_seconds: int | None = None, reason: str = "") -> Plan[PauseOrdered]:
        """Stops all requests to the exchange, for that long or until `resume`; tasks wait."""
        given = {"duration_seconds": duration_seconds, "reason": reason or None}
        body = {name: value for name, value in given.items() if value is not None}
        return post(self._site, "/pause", body)

    @operation
    def resume(self) -> Plan[PauseOrdered]:
        """Lets requests to the exchange go on."""
        return post(self._site, "/resume", {})

    @operation
    def create_key(
        self, owner: str, scopes: list[Scope], expires_at: When = None
    ) -> Plan[ShownKey]:
        """A new key, whose text, `key`, is shown this once. For admins."""
        expires = {} if expires_at is None else {"expires_at": time(expires_at)}
        return once(self._site, "POST", "/keys", {"owner": owner, "scopes": scopes, **expires})

    @stream
    def keys(self, page_size: int | None = None) -> Flow[Key]:
        """Every key, with its owner and what became of it. For admins."""
        return entries(self._site, "/keys", "keys", {"page_size": page_size})

    @operation
    def rotate_key(self, key_id: str) -> Plan[ShownKey]:
        """The key with another secret, whose text, `key`, is shown this once."""
        return once(self._site, "POST", f"/keys/{segment(key_id)}/rotate")

    @operation
    def revoke_key(self, key_id: str) -> Plan[Key]:
        """Ends a key for good."""
        return once(self._site, "DELETE", f"/keys/{segment(key_id)}")


def _schedule(schedule_id: str) -> str:
    return f"/schedules/{segment(schedule_id)}"

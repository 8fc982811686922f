"""Events out: what happened, for whoever listens outside: the event bus, and webhooks."""

from __future__ import annotations

from typing import Any

from chalicelib.wiring import Desk


async def publish(desk: Desk, events: list[dict[str, Any]]) -> None:
    """Publish recorded audit events; each may come again, with the same id."""

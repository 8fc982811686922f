"""A WebSocket client that follows docs/WEBSOCKET.md, for one topic."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]


class Listener:
    """`kept`: the snapshots and updates that count, in order; `holes`: (last number, next)."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.kept: list[Message] = []
        self.holes: list[tuple[int, int]] = []
        self._early: list[Message] = []

    def hear(self, message: Message) -> None:
        if message.get("topic") != self.topic:
            return
        if message["type"] == "snapshot":
            if not self.kept or message["sequence"] >= self._last:
                self.kept.append(message)
            early, self._early = self._early, []
            for update in early:
                self.hear(update)
        elif not self.kept:
            self._early.append(message)
        elif message["sequence"] > self._last:
            if message["sequence"] != self._last + 1:
                self.holes.append((self._last, message["sequence"]))
            self.kept.append(message)

    @property
    def _last(self) -> int:
        last: int = self.kept[-1]["sequence"]
        return last

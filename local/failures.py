"""What can go wrong on a laptop: each message is one sentence that says what to do."""

from __future__ import annotations


class StartFailed(Exception):
    """The local stack cannot be started, or not be ended."""

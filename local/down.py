"""`make down`: end what `make run` started, and nothing else. Data and state stay in .local/.

It needs nothing but Python, so that it works where .venv is gone.
"""

from __future__ import annotations

from local.layout import CLOUD, EXCHANGE, HOME, LOCK, read_object
from local.lock import DOWN, acquire
from local.processes import parts, stop, stop_strays
from local.scratch import SAVED, tidy

#: The cloud first ends a deploy that is under way (at most a minute), then writes its state.
_PATIENCE_S = 120.0


def _say(line: str) -> None:
    print(f"    {line}", flush=True)


def main() -> int:
    if not HOME.exists() and not parts(HOME):
        print("Nothing was running.")
        return 0
    HOME.mkdir(exist_ok=True)
    acquire(LOCK, DOWN, _say)
    running = parts(HOME)
    clouds = [part for part in running if part.name == CLOUD]
    # The exchange last: a function that misses it would put that into the state that is kept.
    stop(*(part.process for part in running if part.name not in (CLOUD, EXCHANGE)), patience_s=3)
    stop(*(part.process for part in clouds), patience_s=_PATIENCE_S)
    stop(*(part.process for part in running if part.name == EXCHANGE), patience_s=3)
    stop_strays(HOME)
    saved = read_object(HOME / SAVED)
    # Empty: it had not begun to keep anything.
    if clouds and saved and saved.get("in_order") is not True:
        kept = f"What it saved at {saved['at']} stays." if saved.get("at") else "Only candles stay."
        print(f"The embedded cloud could not save its state (why: .local/cloud.log). {kept}")
    tidy(HOME)
    names = sorted({part.name for part in running})
    print(f"Ended: {', '.join(names)}." if names else "Nothing was running.")
    return 0

"""Take each permission of each function away in turn, on a running stack that enforces policies,
and see which story fails: `make permissions`.

It writes a function's section of docs/PERMISSIONS.md where all are needed, and ends with 1 where
one is not. First it plays the stories with nothing taken away (`--stories`: only that).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from infra.functions import FUNCTIONS
from tests.doubles.receiver import receiving
from tests.e2e.conftest import SETTINGS
from tests.e2e.stack import running_cloud
from tests.permissions import record
from tests.permissions.quiet import LIMITED, Quiet
from tests.permissions.stories import STORIES, Story


class Grant(NamedTuple):
    """`resource` as the policy names it."""

    function: str
    action: str
    resource: str


@contextmanager
def quiet_stack() -> Iterator[Quiet]:
    with tempfile.TemporaryDirectory() as home, receiving() as receiver:
        hosts = f"127.0.0.1:{receiver.port}"
        settings = {**SETTINGS, **LIMITED, "WEBHOOK_ALLOWED_HOSTS": hosts}
        with running_cloud(Path(home), settings) as cloud:
            yield Quiet(cloud, receiver)


def grants(quiet: Quiet, function: str) -> list[Grant]:
    """What a function's role allows, without what the embedded cloud alone asks for."""
    _, _, document = quiet.policy(function)
    found = [
        Grant(function, action, resource)
        for statement in document["Statement"]
        for resource in statement["Resource"]
        for action in statement["Action"]
        if not (action.endswith("Batch") or resource.endswith("schedule/default/*"))
    ]
    return list(dict.fromkeys(found))


def failure(quiet: Quiet, story: Story) -> str | None:
    """What a story fails with; None where it ends well."""
    quiet.reset()
    try:
        story(quiet)
    except Exception:  # noqa: BLE001 - whatever it is, it is the finding
        return traceback.format_exc(limit=-3)
    return None


def broken(quiet: Quiet, functions: list[str]) -> set[Story]:
    """The stories that fail with nothing taken away."""
    found = set()
    for story in dict.fromkeys(story for name in functions for story in STORIES[name]):
        began = time.monotonic()
        why = failure(quiet, story)
        if why:
            found.add(story)
        print(f"{time.monotonic() - began:5.1f} s  {story.__name__}: {why or 'ok'}", flush=True)
    return found


def misses(quiet: Quiet, grant: Grant, story: Story) -> bool:
    """Whether a story fails for want of a permission: the function says that it was refused, or,
    where it says nothing, the story fails again without the permission and ends well with it."""
    with quiet.without(*grant):
        if failure(quiet, story) is None:
            return False
        if quiet.was_refused():
            return True
        again = failure(quiet, story)
    return again is not None and failure(quiet, story) is None


def needs(quiet: Quiet, function: str, stories: list[Story]) -> int:
    """Take away what a function may do, one by one; how many no story misses."""
    needed: list[record.Needed] = []
    documented: list[record.Needed] = []
    missed = 0
    for grant in grants(quiet, function):
        found = record.Needed(function, grant.action, quiet.label(grant.resource), "")
        if source := record.source_of(*found[:3]):
            documented.append(found._replace(story=source))
            continue
        began = time.monotonic()
        story = next((one for one in stories if misses(quiet, grant, one)), None)
        took_s = time.monotonic() - began
        if story is None:
            missed += 1
        else:
            needed.append(found._replace(story=story.__name__))
        said = story.__name__ if story else "NO STORY FAILS"
        print(f"{took_s:5.1f} s  {function} {found.action} {found.resource}: {said}", flush=True)
    print(f"{function}: {len(needed)} of {len(needed) + missed} permissions are needed", flush=True)
    if not missed:
        record.write(function, needed, documented)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(FUNCTIONS))
    parser.add_argument("--stories", action="store_true")
    given = parser.parse_args()
    functions = given.only or list(FUNCTIONS)
    with quiet_stack() as quiet:
        bad = broken(quiet, functions)
        if bad or given.stories:
            return 1 if bad else 0
        missed = [needs(quiet, name, list(STORIES[name])) for name in functions]
        return 1 if any(missed) else 0


if __name__ == "__main__":
    sys.exit(main())

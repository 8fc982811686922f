"""What was found out about each permission: docs/PERMISSIONS.md."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from typing import NamedTuple

from chalicelib.core.settings import Settings
from chalicelib.core.version import VERSION
from infra.configuration import ROOT
from infra.functions import FUNCTIONS, events
from infra.policies import BY_LAMBDA, UNCHECKED

PAGE = ROOT / "docs" / "PERMISSIONS.md"


class Needed(NamedTuple):
    function: str
    action: str
    #: In the template's names.
    resource: str
    #: The story that fails without it.
    story: str


def source_of(function: str, action: str, resource: str) -> str:
    """Where AWS says that a permission is needed which no embedded cloud checks; or nothing."""
    for pattern, source in UNCHECKED.items():
        if fnmatchcase(action, pattern):
            return source
    for name in ("logs", "traces", "stream"):
        if action in BY_LAMBDA[name].actions:
            return BY_LAMBDA[name].source
    queues = {
        event["Properties"]["Queue"]["Fn::GetAtt"][0]
        for event in events(Settings()).get(function, {}).values()
        if event["Type"] == "SQS"
    }
    if resource in queues and action in BY_LAMBDA["queue"].actions:
        return BY_LAMBDA["queue"].source
    return ""


HEAD = """# Permissions, and what fails without each

Written by `make permissions`. On a running stack that enforces policies (the embedded cloud), asks
for keys and limits every owner, it takes each permission of each function's role away in turn, and
plays the function's stories (`STORIES` of `tests/permissions/stories.py`) until one fails, and the
function has logged that refusal; or the story fails again, and ends well with the permission. For
one function: `make permissions PERMISSIONS='--only plan'`.

What AWS itself does with a role, or what the embedded cloud does not check, cannot be missed there.
Those lines name the page of AWS's documentation that asks for it.
"""


def section(function: str, needed: list[Needed], documented: list[Needed]) -> str:
    """A function's part of the page; `story` of what is documented: its source."""
    total = len(needed)
    lines = [
        f"## {function}",
        "",
        f"Version {VERSION}, {time.strftime('%Y-%m-%d')}: {total} of {total} are needed.",
        "",
        "| action | resource | fails without it |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{one.action}` | `{one.resource}` | {one.story.replace('_', ' ')} |" for one in needed
    ]
    lines += [f"| `{one.action}` | `{one.resource}` | AWS: {one.story} |" for one in documented]
    return "\n".join(lines) + "\n"


def write(function: str, needed: list[Needed], documented: list[Needed]) -> None:
    """Put a function's section into the page, in the place of its older one."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    older = {part.partition("\n")[0]: f"## {part}" for part in text.split("\n## ")[1:]}
    older[function] = section(function, needed, documented)
    sections = [older[name].rstrip("\n") + "\n" for name in FUNCTIONS if name in older]
    PAGE.write_text("\n".join([HEAD, *sections]), encoding="utf-8")


def named_in(text: str) -> set[tuple[str, str, str]]:
    """(function, action, resource) of every line of the page."""
    found = set()
    function = ""
    for line in text.splitlines():
        if line.startswith("## "):
            function = line.removeprefix("## ")
        elif cells := re.match(r"\| `([^`]+)` \| `([^`]+)` \|", line):
            found.add((function, cells[1], cells[2]))
    return found

"""docs/AUDIT.md: its program verifies, its query runs, its commands are the client's, its actions
are those that happen."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pytest

from chalicelib.audit.bucket import encode_events
from chalicelib.audit.chain import AuditEvent, sealed
from chalicelib.events import happenings
from infra.package import ROOT
from market_data_collector.cli.commands import cli

PAGE = (ROOT / "docs" / "AUDIT.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.S | re.M)


@pytest.fixture
def chain() -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for action in ("task.submitted", "task.started", "task.cancelled", "task.retried"):
        event = {
            "subject": "task:one",
            "action": action,
            "at": "2026-11-22T12:00:00.000Z",
            "recorded_at": "2026-11-22T12:00:01.000Z",
            "by": "Zoë",
            "data": {"units": 3, "share": 0.5},
            "late": False,
        }
        events.append(sealed(event, events[-1] if events else None))
    return events


def test_the_program_reads_every_page_and_finds_what_was_altered(
    chain: list[AuditEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def urlopen(url: str) -> io.BytesIO:
        assert url.startswith("http://api/api/v1/data-collector/audit?task_id=one")
        start = int(url.partition("page_token=")[2] or 0)
        following = str(start + 3) if start + 3 < len(chain) else None
        page = {"events": chain[start : start + 3], "next_page_token": following}
        return io.BytesIO(json.dumps(page).encode())

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    [program] = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(program, "docs/AUDIT.md", "exec"), names)
    events = names["trail"]("http://api", "one")
    assert events == chain
    assert names["is_whole"](events) is True
    for at in range(len(events)):
        changed = [*events[:at], {**events[at], "by": "nobody"}, *events[at + 1 :]]
        assert names["is_whole"](changed) is False
        assert names["is_whole"](events[:at] + events[at + 1 :]) is (at == len(events) - 1)
    assert names["is_whole"]([]) is False


def test_the_query_reads_the_exports(
    chain: list[AuditEvent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "audit" / "day=2026-11-22"
    folder.mkdir(parents=True)
    (folder / "events.parquet").write_bytes(encode_events(chain))
    monkeypatch.chdir(tmp_path)
    [query] = blocks("sql")
    assert duckdb.sql(query).fetchall() in (
        [("Zoë", "task.cancelled", 1), ("Zoë", "task.retried", 1)],
        [("Zoë", "task.retried", 1), ("Zoë", "task.cancelled", 1)],
    )


COMMANDS = [
    line.partition("data-collector ")[2]
    for block in blocks("sh")
    for line in block.splitlines()
    if "data-collector audit" in line and not line.startswith("curl")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_the_clients(line: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "exports").mkdir()
    monkeypatch.chdir(tmp_path)
    context = cli.make_context("data-collector", ["audit"], resilient_parsing=True)
    audit = cli.get_command(context, "audit")
    assert audit is not None
    _, *args = shlex.split(line)
    if args[0] == "verify":
        verify = audit.get_command(context, "verify")  # type: ignore[attr-defined]
        assert verify.make_context("verify", args[1:], obj=context.obj)
    else:
        assert audit.make_context("audit", args, obj=context.obj)


def test_its_table_names_every_action_of_tasks_and_symbols() -> None:
    named = set(re.findall(r"`((?:task|symbols)\.[a-z_]+)`", PAGE))
    source = happenings.__doc__ or ""
    assert named == set(re.findall(r"(?:task|symbols)\.[a-z_]+", source))


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) >= 6

"""The audit command: a table of what happened, and chains verified against API and exports."""

import hashlib
import json
import shutil

import httpx
import pytest

from chalicelib.audit.bucket import encode_events, encode_heads
from chalicelib.audit.chain import digest, sealed
from chalicelib.audit.export import heads_of
from tests.cli.fake_api import PREFIX, FakeApi, problem
from tests.cli.running import run

DAY = "2026-11-22"
ONE, TWO, MARKET = "task:one", "task:two", "market:binance"


def chain(subject, *actions, day=DAY):
    events = []
    for number, action in enumerate(actions):
        event = {
            "subject": subject,
            "action": action,
            "at": f"{day}T12:00:0{number}.000Z",
            "recorded_at": f"{day}T12:00:0{number}.500Z",
            "by": "me",
            "attempt": 1,
            "detail": f"detail of {action}",
            "late": action == "late.one",
        }
        events.append(sealed(event, events[-1] if events else None))
    return events


class AuditApi(FakeApi):
    """GET /audit over lists of events, two a page."""

    def __init__(self, *chains):
        super().__init__()
        self.chains = {events[0]["subject"]: events for events in chains}

    def handle_request(self, request):
        self.requests.append(request)
        asked = request.url.params
        kinds = {"task_id": "task", "schedule_id": "schedule", "exchange": "market"}
        named = [f"{kind}:{asked[name]}" for name, kind in kinds.items() if name in asked]
        subjects = named or list(self.chains)
        events = [event for subject in subjects for event in self.chains.get(subject, [])]
        start = int(asked.get("page_token", 0))
        following = str(start + 2) if start + 2 < len(events) else None
        body = {"events": events[start : start + 2], "next_page_token": following}
        return httpx.Response(200, json=body)


@pytest.fixture
def api():
    return AuditApi(
        chain(ONE, "task.submitted", "task.started", "task.completed"),
        chain(TWO, "task.submitted", "task.cancelled"),
        chain(MARKET, "symbols.changed"),
    )


def export(folder, *chains, day=DAY, before=None, heads_file=False):
    """One exported day; returns the manifest's text."""
    events = [event for events in chains for event in events]
    path = folder / "audit" / f"day={day}"
    path.mkdir(parents=True)
    (path / "events.parquet").write_bytes(encode_events(events))
    manifest = {
        "v": 1,
        "day": day,
        "events": len(events),
        "events_sha256": hashlib.sha256((path / "events.parquet").read_bytes()).hexdigest(),
        "previous_day": before and json.loads(before)["day"],
        "previous_manifest_sha256": before and hashlib.sha256(before).hexdigest(),
    }
    if heads_file:
        (path / "heads.parquet").write_bytes(encode_heads(heads_of(events)))
        content = (path / "heads.parquet").read_bytes()
        manifest["heads_sha256"] = hashlib.sha256(content).hexdigest()
    else:
        manifest["heads"] = heads_of(events)
    text = json.dumps(manifest).encode()
    (path / "manifest.json").write_bytes(text)
    return text


@pytest.fixture
def exports(api, tmp_path):
    export(tmp_path, *api.chains.values())
    return tmp_path


def test_it_prints_what_happened_in_columns(api):
    ran = run("audit", "--task", "one", api=api)
    assert ran.code == 0
    header, *lines = ran.out.splitlines()
    assert header.split() == ["AT", "(UTC)", "SEQ", "ATTEMPT", "ACTION", "BY", "DETAIL"]
    assert lines[1].split() == [
        *("2026-11-22", "12:00:01", "2", "1", "task.started", "me"),
        *("detail", "of", "task.started"),
    ]
    assert len(lines) == 3
    assert "SUBJECT" in run("audit", api=api).out


def test_it_asks_with_the_filters_that_were_given(api):
    args = ["--from", "2026-11-22", "--to", "2026-11-23T12:00", "--action", "task.started"]
    run("audit", *args, api=api)
    asked = dict(api.requests[0].url.params)
    assert asked == {
        "from": "2026-11-22T00:00:00Z",
        "to": "2026-11-23T12:00:00Z",
        "action": "task.started",
    }
    assert api.requests[0].url.path == f"{PREFIX}/audit"
    ran = run("audit", "--schedule", "none", "--json", api=api)
    assert ran.json == {"events": []}
    assert "No events." in run("audit", "--exchange", "none", api=api).out


def test_what_came_late_says_so():
    assert "(late)" in run("audit", api=AuditApi(chain(ONE, "late.one"))).out


def test_chains_that_are_whole_end_with_code_0(api, exports):
    for args in (["one"], ["one", "task:two", MARKET], ["--all"]):
        for more in ([], ["--exports", str(exports)]):
            ran = run("audit", "verify", *args, *more, api=api)
            assert ran.code == 0, ran.out
            last = ran.out.splitlines()[-1]
            assert " verified" in last
            assert last.endswith(", no error")
    assert "task:one: 3 events, no error" in ran.out


def altered(events):
    events[1] = {**events[1], "by": "nobody"}


def missing(events):
    del events[1]


def reordered(events):
    events[0], events[1] = events[1], events[0]


def truncated(events):
    del events[2:]


def made_anew(events):
    fresh = []
    for event in events:
        fresh.append(sealed({**event, "by": "nobody"}, fresh[-1] if fresh else None))
    events[:] = fresh


def all_gone(events):
    events.clear()


@pytest.mark.parametrize(
    ("tamper", "kind", "needs_exports"),
    [
        (altered, "altered", False),
        (missing, "missing", False),
        (reordered, "reordered", False),
        (truncated, "truncated", True),
        (made_anew, "altered", True),
        (all_gone, "truncated", True),
    ],
)
@pytest.mark.parametrize("args", [["one"], ["--all"]])
def test_tampering_is_found_told_and_ends_with_code_1(
    api, exports, tamper, kind, needs_exports, args
):
    tamper(api.chains[ONE])
    if args == ["--all"] and kind == "reordered":
        return  # the pass over all days is in the order of recording
    extra = ["--exports", str(exports), "--retention-days", "100000"] if needs_exports else []
    ran = run("audit", "verify", *args, *extra, api=api)
    assert ran.code == 1, ran.out
    assert f"task:one: {kind}: " in ran.out
    assert "1 broken" in ran.out
    verified = run("audit", "verify", *args, *extra, "--json", api=api)
    assert verified.code == 1
    assert verified.json["ok"] is False
    [broken] = [entry for entry in verified.json["chains"] if entry["faults"]]
    assert broken["subject"] == ONE
    assert broken["faults"][0]["kind"] == kind
    if needs_exports and tamper is not all_gone:
        assert run("audit", "verify", *args, api=api).code == 0


def test_an_index_that_lags_behind_is_no_fault():
    whole = chain(ONE, "task.submitted", "task.started", "task.completed")

    class Lagging(AuditApi):
        def handle_request(self, request):
            self.chains[ONE] = whole if "task_id" in request.url.params else [whole[0], whole[2]]
            return super().handle_request(request)

    assert run("audit", "verify", "--all", api=Lagging(whole)).code == 0


def test_chains_past_their_retention_need_not_be_there_any_more(api, exports):
    del api.chains[TWO]
    assert run("audit", "verify", "--all", "--exports", str(exports), api=api).code == 1
    args = ["--exports", str(exports), "--retention-days", "0"]
    assert run("audit", "verify", "--all", *args, api=api).code == 0


def test_a_beginning_past_its_retention_is_vouched_for_by_the_exports(api, exports):
    del api.chains[ONE][0]
    ran = run("audit", "verify", "one", api=api)
    assert (ran.code, "event 1 is missing" in ran.out) == (1, True)
    assert run("audit", "verify", "one", "--exports", str(exports), api=api).code == 0


def test_heads_of_a_file_of_their_own_count_as_well(api, tmp_path):
    export(tmp_path, *api.chains.values(), heads_file=True)
    (tmp_path / "audit" / f"day={DAY}" / "events.parquet").unlink()
    truncated(api.chains[ONE])
    ran = run("audit", "verify", "one", "--exports", str(tmp_path), api=api)
    assert "truncated" in ran.out
    assert "events.parquet cannot be read" in ran.out


def test_exports_that_were_changed_are_told_by_their_own_hashes(api, tmp_path):
    first = export(tmp_path, api.chains[TWO], day="2026-11-20")
    second = export(tmp_path, api.chains[MARKET], day="2026-11-21", before=first)
    export(tmp_path, api.chains[ONE], day=DAY, before=second)
    folder = tmp_path / "audit"
    assert run("audit", "verify", "one", "--exports", str(folder), api=api).code == 0

    def verdict(change):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        change(copy)
        ran = run("audit", "verify", "one", "--exports", str(copy), api=api)
        assert ran.code == 1
        return ran.out

    swapped = verdict(
        lambda copy: shutil.copy(
            copy / "day=2026-11-20" / "events.parquet", copy / f"day={DAY}" / "events.parquet"
        )
    )
    assert f"{DAY}: events.parquet is not the file that its manifest names" in swapped
    rewritten = verdict(
        lambda copy: (copy / "day=2026-11-20" / "manifest.json").write_bytes(first + b" ")
    )
    assert "2026-11-21: its manifest follows 2026-11-20" in rewritten
    dropped = verdict(lambda copy: shutil.rmtree(copy / "day=2026-11-21"))
    assert f"{DAY}: its manifest follows 2026-11-21" in dropped
    unreadable = verdict(
        lambda copy: (copy / "day=2026-11-21" / "manifest.json").write_text("no JSON")
    )
    assert "2026-11-21: the manifest cannot be read" in unreadable


def test_events_that_the_export_found_altered_are_named(api, tmp_path):
    first = export(tmp_path, api.chains[TWO], day="2026-11-20")
    folder = tmp_path / "audit" / f"day={DAY}"
    text = export(tmp_path, api.chains[ONE][:2], before=first)
    ids = [f"{ONE}:{number}" for number in range(3, 25)]
    stored = json.dumps([{"id": each, "item": {}} for each in ids]).encode()
    (folder / "altered.json").write_bytes(stored)
    named = {"object": "altered.json", "events": 22, "sha256": hashlib.sha256(stored).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({**json.loads(text), "altered": named}))
    altered(api.chains[ONE])
    ran = run("audit", "verify", "one", "--exports", str(tmp_path), api=api)
    assert ran.code == 1
    assert "task:one: altered: event 2" in ran.out
    verified = run("audit", "verify", "one", "--exports", str(tmp_path), "--json", api=api)
    [fault] = verified.json["export_faults"]
    assert fault.startswith(f"{DAY}: altered before they were exported: {ONE}:3, {ONE}:4")
    assert fault.endswith(f"{ONE}:22 and 2 more")
    (folder / "altered.json").write_bytes(stored + b" ")
    ran = run("audit", "verify", TWO, "--exports", str(tmp_path), api=api)
    assert ran.code == 1
    assert "altered.json is not the file that its manifest names" in ran.out
    (folder / "altered.json").unlink()
    ran = run("audit", "verify", TWO, "--exports", str(tmp_path), api=api)
    assert "altered.json cannot be read" in ran.out


def test_an_unknown_id_is_no_proof_of_anything(api):
    ran = run("audit", "verify", "unknown", api=api)
    assert ran.code == 1
    assert "there is no event at all" in ran.out


@pytest.mark.parametrize(
    "args",
    [
        ["audit", "verify"],
        ["audit", "verify", "one", "--all"],
        ["audit", "verify", "one", "--exports", "nowhere"],
        ["audit", "verify", "one", "--exports", "."],
        ["audit", "--task", "one", "verify", "one"],
    ],
)
def test_wrong_usage_is_told_and_asks_nothing(args, api):
    ran = run(*args, api=api)
    assert ran.code == 2
    assert not api.requests


def test_what_the_api_refuses_is_refused_here(api):
    refused = FakeApi({"GET /audit": [problem(400, "Bad", "no", "INVALID_REQUEST")]})
    assert run("audit", "--action", "x", api=refused).code == 2


def test_an_event_that_is_no_event_is_altered_and_not_a_crash(api):
    event = {**api.chains[ONE][1], "seq": 2}
    for odd in ({}, {"seq": 2}, {**event, "hash": None}, {**event, "hash": digest(event)[:5]}):
        api.chains[ONE][1] = odd
        assert run("audit", "verify", "one", api=api).code == 1

"""The chain of hashes: no fault where nothing was altered, and each kind of tampering found."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.audit.chain import (
    ALTERED,
    FIELDS,
    GENESIS,
    MISSING,
    REORDERED,
    TRUNCATED,
    AuditEvent,
    canonical,
    digest,
    sealed,
    verify,
)

SUBJECT = "task:one"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False).filter(abs),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "inf" not in repr(value))
contents = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["task.submitted", "task.started"]),
        "at": st.just("2026-11-23T00:00:00.000Z"),
        "by": st.text(max_size=5),
        "data": anything,
        "before": anything,
    }
)


def chain_of(all_contents: list[dict[str, Any]]) -> list[AuditEvent]:
    chain: list[AuditEvent] = []
    for content in all_contents:
        chain.append(sealed({"subject": SUBJECT, **content}, chain[-1] if chain else None))
    return chain


chains = st.lists(contents, min_size=1, max_size=6).map(chain_of)


@given(chains)
def test_a_chain_is_whole_and_stays_so_through_json(chain: list[AuditEvent]) -> None:
    assert verify(SUBJECT, chain) == []
    assert verify(SUBJECT, json.loads(json.dumps(chain))) == []
    assert [event["seq"] for event in chain] == list(range(1, len(chain) + 1))
    assert chain[0]["previous_hash"] == GENESIS
    assert all(tuple(event) == FIELDS for event in chain)


@given(chains, st.data())
def test_an_altered_field_is_found_at_its_event(
    chain: list[AuditEvent], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(chain) - 1))
    name = data.draw(st.sampled_from([field for field in FIELDS if field != "seq"]))
    value = data.draw(
        anything.filter(lambda new: canonical({"x": new}) != canonical({"x": chain[at][name]}))
    )
    chain[at] = {**chain[at], name: value}
    assert (at + 1, ALTERED) in {(fault.seq, fault.kind) for fault in verify(SUBJECT, chain)}


@given(chains.filter(lambda chain: len(chain) > 1), st.data())
def test_a_missing_event_is_named(chain: list[AuditEvent], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(chain) - 2))
    [fault] = verify(SUBJECT, chain[:at] + chain[at + 1 :])
    assert (fault.seq, fault.kind) == (at + 1, MISSING)
    assert f"event {at + 1} is missing" in fault.detail


@given(chains.filter(lambda chain: len(chain) > 1), st.data())
def test_events_out_of_their_order_are_named(chain: list[AuditEvent], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(chain) - 2))
    chain[at], chain[at + 1] = chain[at + 1], chain[at]
    [fault] = verify(SUBJECT, chain)
    assert (fault.seq, fault.kind) == (at + 1, REORDERED)


@given(chains, st.data())
def test_a_tail_that_was_cut_off_is_found_by_what_was_exported_and_by_nothing_else(
    chain: list[AuditEvent], data: st.DataObject
) -> None:
    left = data.draw(st.integers(0, len(chain) - 1))
    exported = {chain[-1]["seq"]: chain[-1]["hash"]}
    [fault] = verify(SUBJECT, chain[:left], exported)
    assert (fault.seq, fault.kind) == (left + 1, TRUNCATED)
    assert [fault.kind for fault in verify(SUBJECT, chain[:left])] == ([] if left else [MISSING])


@given(chains, st.data())
def test_an_event_rewritten_with_a_right_hash_breaks_its_successors_link_or_the_export(
    chain: list[AuditEvent], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(chain) - 1))
    exported = {event["seq"]: event["hash"] for event in chain}
    changed = {**chain[at], "by": chain[at]["by"] + "!"}
    chain[at] = {**changed, "hash": digest(changed)}
    found = {(fault.seq, fault.kind) for fault in verify(SUBJECT, chain)}
    assert found == ({(at + 1, ALTERED)} if at + 1 < len(chain) else set())
    assert (at + 1, ALTERED) in {
        (fault.seq, fault.kind) for fault in verify(SUBJECT, chain, exported)
    }


@given(chains)
def test_a_chain_made_anew_from_its_first_event_is_found_by_what_was_exported(
    chain: list[AuditEvent],
) -> None:
    forged = chain_of([{**event, "by": "somebody else"} for event in chain])
    assert verify(SUBJECT, forged) == []
    head = {chain[-1]["seq"]: chain[-1]["hash"]}
    assert [fault.kind for fault in verify(SUBJECT, forged, head)] == [ALTERED]


def test_a_beginning_past_its_retention_is_fine_where_an_export_knows_the_event_before() -> None:
    chain = chain_of([{"action": "task.started"}] * 5)
    exported = {event["seq"]: event["hash"] for event in chain}
    assert verify(SUBJECT, chain[2:], exported) == []
    [fault] = verify(SUBJECT, chain[2:])
    assert (fault.seq, fault.kind) == (1, MISSING)
    assert "events 1 to 2 are missing" in fault.detail
    [fault] = verify(SUBJECT, chain[2:], {2: "another hash"})
    assert fault.kind == MISSING


def test_an_event_of_another_chain_and_one_without_a_number_are_altered() -> None:
    chain = chain_of([{"action": "task.started"}] * 2)
    other = sealed({"subject": "task:two", "action": "task.started"}, chain[0])
    assert (2, ALTERED) in {(f.seq, f.kind) for f in verify(SUBJECT, [chain[0], other])}
    for number in (None, "2", True, 0, -1):
        faults = verify(SUBJECT, [chain[0], {**chain[1], "seq": number}])
        assert [(fault.seq, fault.kind) for fault in faults] == [(0, ALTERED)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
def test_what_is_no_json_cannot_be_sealed(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        sealed({"subject": SUBJECT, "data": value}, None)


def test_the_canonical_form_is_the_documented_one() -> None:
    assert canonical({"b": 1, "a": "é", "hash": "left out"}) == b'{"a":"\\u00e9","b":1}'

"""The audit trail's chains: events, their hashes, and how to verify a chain. Pure.

The events of a subject are a chain: they are numbered 1, 2, 3 ... without holes, and each holds
two hashes. `hash` is the SHA-256 over the canonical JSON of all its other fields. `previous_hash`
is the hash of the event before it (64 zeros in the first). So whoever alters, removes, inserts or
moves an event has to compute every later hash anew. Even that is found where the hashes of the last
events (the heads) were exported before.

Canonical JSON: keys sorted, no blanks, ASCII with \\u escapes, no NaN, UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict, cast

#: What the first event of a chain names as the hash before it.
GENESIS = "0" * 64


class AuditEvent(TypedDict):
    """An event of the audit trail. What is stored, exported and hashed has just these fields."""

    #: <subject>:<seq>
    id: str
    #: What it happened to: task:<id>, schedule:<id>, market:<exchange> or key:<id>.
    subject: str
    #: Its number in the subject's chain, from 1.
    seq: int
    #: What happened, like task.submitted.
    action: str
    #: When it happened, and when it was recorded: ISO 8601, UTC, with milliseconds.
    at: str
    recorded_at: str
    #: Who may read it; None: everybody.
    owner: str | None
    #: Who did it: an owner, `schedule`, `freshness` or `system`; and the HTTP request by which.
    by: str
    request_id: str | None
    #: Of a task.
    attempt: int | None
    #: What changed, and what else is to be known, as JSON values.
    before: Any
    after: Any
    #: For people.
    detail: str
    data: Any
    #: <sequence number>:<index>: its place in the table's stream, by which an event that is
    #: delivered twice is known.
    stream: str
    #: Whether an event with a later place in the stream was recorded before it.
    late: bool
    #: The hash of the event before it; GENESIS in the first.
    previous_hash: str
    hash: str


#: The names of the fields, in the order of the export's columns.
FIELDS = tuple(AuditEvent.__annotations__)

ALTERED, MISSING, REORDERED, TRUNCATED = "altered", "missing", "reordered", "truncated"


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a chain. `seq` is the event's number; 0: the whole chain."""

    subject: str
    seq: int
    kind: str
    detail: str


def canonical(event: Mapping[str, Any]) -> bytes:
    """What is hashed of an event. Raises ValueError or TypeError where it is no JSON."""
    content = {name: value for name, value in event.items() if name != "hash"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(event: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(event)).hexdigest()


def holds_its_hash(event: Mapping[str, Any]) -> bool:
    """Whether an event's hash is that of its content."""
    try:
        return digest(event) == event.get("hash")
    except (TypeError, ValueError, RecursionError):
        return False


def sealed(event: Mapping[str, Any], previous: AuditEvent | None) -> AuditEvent:
    """The event that follows `previous` (None: the first): numbered, linked, hashed.

    `event`: its other fields; those that it lacks are None.
    """
    seq = previous["seq"] + 1 if previous else 1
    linked = {
        **event,
        "id": f"{event['subject']}:{seq}",
        "seq": seq,
        "previous_hash": previous["hash"] if previous else GENESIS,
    }
    whole = {name: linked.get(name) for name in FIELDS if name != "hash"}
    return cast(AuditEvent, {**whole, "hash": digest(whole)})


def verify(
    subject: str, events: Sequence[AuditEvent], exported: Mapping[int, str] | None = None
) -> list[Fault]:
    """All that is wrong with the chain of `subject`, whose events were found in this order.

    `exported`: seq -> hash, of the events that were exported. The first events of a chain may have
    expired. Such a chain has no fault where the export holds the event before its first one.
    """
    known = exported or {}
    faults = [*_out_of_order(subject, events)]
    by_seq = {event["seq"]: event for event in events if _is_number(event.get("seq"))}
    faults += (
        Fault(subject, 0, ALTERED, f"an event has {event.get('seq')!r} for its number")
        for event in events
        if not _is_number(event.get("seq"))
    )
    if not events and not known:
        return [Fault(subject, 0, MISSING, "there is no event at all")]
    ordered = [by_seq[seq] for seq in sorted(by_seq)]
    for event in ordered:
        faults += _altered(subject, event, known)
    faults += _broken_links(subject, ordered)
    faults += _missing(subject, ordered, known)
    last = max(by_seq, default=0)
    beyond = sorted(seq for seq in known if seq > last)
    if beyond:
        detail = f"the export knows events up to {beyond[-1]}, but the chain ends with {last}"
        faults.append(Fault(subject, last + 1, TRUNCATED, detail))
    return sorted(faults, key=lambda fault: fault.seq)


def _is_number(seq: object) -> bool:
    return isinstance(seq, int) and not isinstance(seq, bool) and seq > 0


def _out_of_order(subject: str, events: Iterable[AuditEvent]) -> list[Fault]:
    numbers = [event["seq"] for event in events if _is_number(event.get("seq"))]
    faults = []
    for before, seq in pairwise(numbers):
        if seq == before:
            faults.append(Fault(subject, seq, REORDERED, f"event {seq} stands there twice"))
        elif seq < before:
            detail = f"event {seq} stands behind event {before}"
            faults.append(Fault(subject, seq, REORDERED, detail))
    return faults


def _altered(subject: str, event: AuditEvent, known: Mapping[int, str]) -> list[Fault]:
    seq = event["seq"]
    if event.get("subject") != subject or event.get("id") != f"{subject}:{seq}":
        detail = f"event {seq} says that it is {event.get('id')!r} of {event.get('subject')!r}"
        return [Fault(subject, seq, ALTERED, detail)]
    try:
        found = digest(event)
    except (TypeError, ValueError, RecursionError) as error:
        return [Fault(subject, seq, ALTERED, f"event {seq} is no event: {error}")]
    if found != event.get("hash"):
        detail = (
            f"event {seq} ({event.get('action')}) was altered: its content gives the hash "
            f"{found[:12]}..., and it holds {str(event.get('hash'))[:12]}..."
        )
        return [Fault(subject, seq, ALTERED, detail)]
    if seq in known and known[seq] != event["hash"]:
        detail = (
            f"event {seq} ({event.get('action')}) was rewritten: it has the hash "
            f"{found[:12]}..., and the export {known[seq][:12]}..."
        )
        return [Fault(subject, seq, ALTERED, detail)]
    return []


def _broken_links(subject: str, ordered: Sequence[AuditEvent]) -> list[Fault]:
    faults = []
    first = ordered[0] if ordered else None
    if first and first["seq"] == 1 and first.get("previous_hash") != GENESIS:
        faults.append(Fault(subject, 1, ALTERED, "event 1 follows something, as no first one does"))
    for before, event in pairwise(ordered):
        if event["seq"] != before["seq"] + 1 or event.get("previous_hash") == before.get("hash"):
            continue
        detail = (
            f"event {before['seq']} is not the one that event {event['seq']} followed: "
            "one of them was replaced"
        )
        faults.append(Fault(subject, before["seq"], ALTERED, detail))
    return faults


def _missing(subject: str, ordered: Sequence[AuditEvent], known: Mapping[int, str]) -> list[Fault]:
    faults, expected = [], 1
    for event in ordered:
        seq = event["seq"]
        forgotten = expected == 1 and known.get(seq - 1) == event.get("previous_hash")
        if seq > expected and not forgotten:
            which = f"event {expected} is" if seq - 1 == expected else ""
            which = which or f"events {expected} to {seq - 1} are"
            detail = f"{which} missing before event {seq} ({event.get('action')})"
            faults.append(Fault(subject, expected, MISSING, detail))
        expected = seq + 1
    return faults

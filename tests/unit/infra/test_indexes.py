"""Indexes change one at a time, and only by coming or going: a stack in use takes no other change.

Sources: CloudFormation Template Reference, AWS::DynamoDB::Table, GlobalSecondaryIndexes ("Updates
are not supported", except that "you can delete or add one global secondary index"; both in one
update fail); DynamoDB API Reference, UpdateTable (one index per operation).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

#: Table -> index -> (hash key, range key, what it holds besides the keys).
Indexes = dict[str, dict[str, tuple[str, str, str]]]

_LISTED = (
    "task_id task_type state attempt created_at started_at completed_at stopped_at message error "
    "result total_units progs_total ttl priority schedule_id"
)
#: What each release deploys, oldest first. A change of an index is a new entry at the end.
RELEASES: list[Indexes] = [
    {
        "TasksTable": {
            "by_owner": ("owner", "created_key", _LISTED),
            "active": (
                "active",
                "created_key",
                "task_id task_type state attempt created_at ttl priority",
            ),
        },
        "AuditTable": {"by_day": ("day", "sk_time", "everything")},
    },
    {
        "TasksTable": {
            "by_owner": ("owner", "created_key", _LISTED),
            "by_state": ("listed_as", "created_key", "ttl"),
            "active": (
                "active",
                "created_key",
                "task_id task_type state attempt created_at ttl priority",
            ),
        },
        "AuditTable": {"by_day": ("day", "sk_time", "everything")},
    },
]
HOW = (
    "CloudFormation adds or removes one index of a table per update, and changes none: add an "
    "index under a new name, record it in RELEASES, release; then read from it, release; then "
    "remove the old one, record that, release"
)


def indexes_of(resources: dict[str, Any]) -> Indexes:
    found: Indexes = {}
    for table, resource in resources.items():
        for index in resource["Properties"].get("GlobalSecondaryIndexes", ()):
            keys = [key["AttributeName"] for key in index["KeySchema"]]
            holds = " ".join(index["Projection"].get("NonKeyAttributes", ["everything"]))
            found.setdefault(table, {})[index["IndexName"]] = (keys[0], keys[1], holds)
    return found


def refused(before: Indexes, after: Indexes) -> list[str]:
    """The tables that CloudFormation cannot take from one release to the next."""
    tables = sorted(before.keys() | after.keys())
    return [table for table in tables if not _is_step(before.get(table, {}), after.get(table, {}))]


def _is_step(before: dict[str, Any], after: dict[str, Any]) -> bool:
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    return not changed and len(before.keys() ^ after.keys()) <= 1


def test_the_indexes_are_those_of_the_newest_release(resources: dict[str, Any]) -> None:
    assert indexes_of(resources) == RELEASES[-1], HOW


def test_each_release_is_one_step_from_the_one_before() -> None:
    for before, after in pairwise(RELEASES):
        assert refused(before, after) == [], HOW


NAMES = st.sampled_from(("one", "two", "three"))
DEFINITIONS = st.sampled_from((("a", "b", "c"), ("a", "b", "everything"), ("x", "b", "c")))
TABLES = st.dictionaries(
    st.sampled_from(("TasksTable", "AuditTable")), st.dictionaries(NAMES, DEFINITIONS), max_size=2
)


@settings(deadline=None)
@given(before=TABLES, table=st.sampled_from(("TasksTable", "AuditTable")), data=st.data())
def test_only_one_that_comes_or_goes_is_a_step(before: Indexes, table: str, data: Any) -> None:
    indexes = before.get(table, {})
    came = {**before, table: {**indexes, "new": ("a", "b", "c")}}
    assert refused(before, came) == refused(came, before) == []
    assert refused(before, {**came, table: {**came[table], "newer": ("a", "b", "c")}}) == [table]
    if indexes:
        name = data.draw(st.sampled_from(sorted(indexes)))
        kept = {other: found for other, found in indexes.items() if other != name}
        assert refused(before, {**before, table: {**kept, "new": indexes[name]}}) == [table]
        other_keys = {**indexes, name: ("another", "b", "c")}
        assert refused(before, {**before, table: other_keys}) == [table]

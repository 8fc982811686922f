"""Reading the trail: pages of a subject, and of a stretch of time, each event once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.audit.chain import AuditEvent, sealed
from chalicelib.audit.query import _MOST_QUERIES, AuditQuery, page_of_audit, token_of
from chalicelib.audit.table import AuditTable
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.settings import Settings
from chalicelib.core.times import DAY, iso, parse_time
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock

TABLES = Settings(
    audit_table="audit", tasks_table="tasks", market_table="market", connections_table="connections"
)


class Writer:
    """Chains of events, recorded at the clock's time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.aws = Aws.for_settings(self.clock, TABLES)
        self.backend: Backend = Backend(self.aws, TABLES, self.clock)
        self.ends: dict[str, AuditEvent] = {}

    def add(
        self, subject: str, action: str = "task.started", owner: str | None = "me"
    ) -> AuditEvent:
        event = sealed(
            {
                "subject": subject,
                "action": action,
                "owner": owner,
                "recorded_at": iso(self.clock()),
            },
            self.ends.get(subject),
        )
        run(AuditTable(self.backend).add(event, self.clock() // 1000 + 400 * 86_400))
        self.ends[subject] = event
        return event

    def pages(self, page_size: int = 100, **query: object) -> list[list[AuditEvent]]:
        token: str | None = None
        pages = []
        while True:
            asked = AuditQuery("me", page_size, token=token, **query)  # type: ignore[arg-type]
            page, token = run(page_of_audit(self.backend, asked))
            pages.append(page)
            assert len(page) <= page_size
            if token is None:
                return pages

    def all(self, page_size: int = 100, **query: object) -> list[str]:
        return [event["id"] for page in self.pages(page_size, **query) for event in page]


@pytest.fixture
def writer() -> Writer:
    return Writer()


def test_what_is_past_its_retention_is_gone_though_it_is_not_deleted_yet(writer: Writer) -> None:
    first = writer.add("market:binance")
    writer.clock.advance(DAY)
    second = writer.add("market:binance")
    writer.clock.advance(399 * DAY - 1000)
    assert writer.all(subject="market:binance") == [first["id"], second["id"]]
    writer.clock.advance(1001)
    assert writer.all(subject="market:binance") == [second["id"]]
    assert writer.all(subject="market:binance", from_ms=0) == [second["id"]]
    assert writer.all(page_size=1, subject="market:binance") == [second["id"]]
    assert writer.all(from_ms=0) == [second["id"]]


def test_an_event_that_claims_to_be_old_is_shown_all_the_same(writer: Writer) -> None:
    """Or whoever altered its time had hidden it."""
    event = writer.add("task:one")
    [item] = writer.aws.items("audit")
    item["recorded_at"] = {"S": "1999-01-01T00:00:00.000Z"}
    assert writer.all(subject="task:one") == [event["id"]]


def test_days_to_come_have_no_pages(writer: Writer) -> None:
    writer.add("task:one")
    far = parse_time("9999-12-31")
    assert len(writer.pages(from_ms=writer.clock() - DAY, to_ms=far)) == 1


def test_a_subjects_events_come_as_they_are_numbered_the_newest_last(writer: Writer) -> None:
    for _ in range(12):
        writer.add("task:one")
        writer.add("task:two")
    assert writer.all(subject="task:one", page_size=5) == [f"task:one:{n}" for n in range(1, 13)]
    assert [len(page) for page in writer.pages(5, subject="task:one")] == [5, 5, 2]
    assert writer.all(subject="task:unknown") == []


def test_an_action_and_a_time_narrow_a_subjects_events(writer: Writer) -> None:
    begun = writer.clock()
    for action in ("task.submitted", "task.started", "task.started", "task.completed"):
        writer.add("task:one", action)
        writer.clock.advance(1000)
    assert writer.all(subject="task:one", action="task.started") == ["task:one:2", "task:one:3"]
    window = {"from_ms": begun + 1000, "to_ms": begun + 3000}
    assert writer.all(subject="task:one", **window) == ["task:one:2", "task:one:3"]
    assert writer.all(**window) == ["task:one:2", "task:one:3"]


def test_others_events_are_hidden_and_those_of_nobody_are_everybodys(writer: Writer) -> None:
    writer.add("task:mine")
    writer.add("task:theirs", owner="you")
    writer.add("market:binance", owner=None)
    assert set(writer.all()) == {"task:mine:1", "market:binance:1"}
    assert writer.all(subject="task:theirs") == []
    assert writer.all(subject="market:binance") == ["market:binance:1"]


def test_a_range_that_needs_many_days_is_read_in_several_requests(writer: Writer) -> None:
    writer.add("task:old")
    begun = writer.clock()
    writer.clock.advance(3 * _MOST_QUERIES * DAY)
    writer.add("task:new")
    pages = writer.pages(from_ms=begun)
    assert [event["id"] for page in pages for event in page] == ["task:old:1", "task:new:1"]
    assert len(pages) > 3


def test_without_a_range_it_is_the_last_day(writer: Writer) -> None:
    writer.add("task:old")
    writer.clock.advance(DAY + 1)
    writer.add("task:new")
    assert writer.all() == ["task:new:1"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["task:a", "task:b"]), st.sampled_from([0, 0, 1, DAY // 3])),
        max_size=25,
    ),
    page_size=st.integers(1, 7),
    page_items=st.none() | st.integers(1, 4),
)
def test_pages_of_any_size_hold_each_event_once_in_the_order_of_recording(
    steps: list[tuple[str, int]], page_size: int, page_items: int | None
) -> None:
    writer = Writer()
    begun = writer.clock()
    added = []
    for subject, wait in steps:
        added.append(writer.add(subject))
        writer.clock.advance(wait)
    # DynamoDB may cut its own pages anywhere.
    found = writer.all(page_size, from_ms=begun)
    writer.aws.dynamodb.tables["audit"].page_items = page_items
    expected = sorted(
        added, key=lambda event: (event["recorded_at"], event["subject"], event["seq"])
    )
    assert found == [event["id"] for event in expected]
    assert writer.all(page_size, from_ms=begun) == found
    for subject in ("task:a", "task:b"):
        mine = [event["id"] for event in added if event["subject"] == subject]
        assert writer.all(page_size, subject=subject) == mine


AFTER_EVENTS = {token_of(seq) for seq in range(1, 10_000)}


@given(st.text(max_size=30) | st.sampled_from(["MQ", "M0", "LTE", "dHJ1ZQ", "IjEi", "MS41", "W10"]))
def test_a_token_of_nobodys_is_refused(token: str) -> None:
    backend = Writer().backend
    for subject in ("task:one", None):
        asked = AuditQuery("me", 5, subject=subject, token=token)
        if subject and token in AFTER_EVENTS:
            assert run(page_of_audit(backend, asked)) == ([], None)
        else:
            with pytest.raises(InvalidRequest):
                run(page_of_audit(backend, asked))


def test_an_event_that_somebody_altered_is_still_shown(writer: Writer) -> None:
    for _ in range(3):
        writer.add("task:one")
    [_, stored, _] = writer.aws.dynamodb.tables["audit"].items.values()
    stored |= {
        "seq": {"S": "two"},
        "attempt": {"N": "1.5"},
        "data": {"S": "no JSON"},
        "before": {"L": []},
        "by": {"SS": ["a"]},
    }
    shown = writer.pages(1, subject="task:one")
    assert [page[0]["seq"] for page in shown] == [1, "two", 3]
    assert shown[1][0]["data"] == "no JSON"
    assert len(writer.all(1)) == 3

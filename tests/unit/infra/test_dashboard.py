"""The dashboard: four questions in order, of metrics that exist, and what draws it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.metrics import METRICS, NAMESPACE
from chalicelib.core.settings import Settings
from infra import dashboard, storage
from infra.functions import FUNCTIONS, timeouts
from infra.package import ROOT
from local.board import Board, lines_of, named_metrics
from local.drawing import draw
from local.emf import Datum, by_minute, data_of
from local.insights import Answer, QueryInvalid, record_of, run
from local.metric_math import MathInvalid, calculate

SETTINGS = Settings()
BODY = dashboard.body(SETTINGS, storage.queues(timeouts(SETTINGS)), storage.tables())
WIDGETS = BODY["widgets"]
GRAPHS = [widget for widget in WIDGETS if widget["type"] == "metric"]
each_graph = pytest.mark.parametrize("graph", GRAPHS, ids=lambda w: w["properties"]["title"])


# --- the definition ---------------------------------------------------------------------------


def test_it_answers_four_questions_from_top_to_bottom() -> None:
    headings = [(w["y"], w["properties"]["markdown"]) for w in WIDGETS if w["type"] == "text"]
    assert [heading for _, heading in sorted(headings)] == [
        "# Is it healthy?",
        "# Is it keeping up?",
        "# What does it cost?",
        "# Which symbol fails?",
    ]


def test_no_two_widgets_overlap_and_none_leaves_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in WIDGETS:
        cells = {
            (widget["x"] + across, widget["y"] + down)
            for across in range(widget["width"])
            for down in range(widget["height"])
        }
        assert not cells & taken
        assert widget["x"] + widget["width"] <= 24
        taken |= cells


def test_it_stays_within_cloudwatchs_limits() -> None:
    # CloudWatch quotas: 500 widgets, 500 metrics a graph, 2,500 a dashboard; a template has 1 MB.
    assert len(WIDGETS) <= 500
    assert max(len(graph["properties"]["metrics"]) for graph in GRAPHS) <= 500
    assert len(list(named_metrics(WIDGETS))) <= 2500
    assert len(json.dumps(BODY)) < 200_000


@each_graph
def test_a_graph_names_metrics_that_are_declared_with_their_dimensions(graph) -> None:
    for namespace, name, dimensions in named_metrics([graph]):
        if namespace != NAMESPACE:
            continue
        own = {key for key, _ in dimensions} - {"Stack"}
        declared = METRICS[name]
        assert own == set(declared.dimensions) or (not own and declared.total)


@each_graph
def test_ids_of_a_graph_are_unique_and_its_expressions_use_only_those(graph) -> None:
    lines = lines_of(graph)
    ids = [line.id for line in lines if line.id]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-zA-Z0-9_]*", id) for id in ids)
    for line in lines:
        if line.expression:
            series = {id: {0.0: 1.0} for id in ids}
            assert calculate(line.expression, series, dict.fromkeys(ids, 60), [0.0])


@each_graph
def test_a_graph_has_a_title_of_its_own_and_labels_without_repetition(graph) -> None:
    titles = [widget["properties"]["title"] for widget in WIDGETS if widget["type"] != "text"]
    assert titles.count(graph["properties"]["title"]) == 1
    labels = [line.label for line in lines_of(graph) if line.visible]
    if "Throttles" not in graph["properties"]["title"]:
        assert len(labels) == len(set(labels))


def test_every_function_has_its_errors_its_cost_and_its_cold_starts_shown() -> None:
    named = set(named_metrics(WIDGETS))
    for name, resource in FUNCTIONS.items():
        dimensions = (("FunctionName", f"${{{resource}}}"),)
        for metric in ("Errors", "Duration", "Invocations"):
            assert ("AWS/Lambda", metric, dimensions) in named
        cold = (("Function", name), ("Stack", "${AWS::StackName}"))
        assert (NAMESPACE, "ColdStarts", cold) in named


def test_the_estimate_is_the_prices_times_what_was_used() -> None:
    [graph] = [g for g in GRAPHS if "US$" in g["properties"]["title"]]
    lines = lines_of(graph)
    series = {line.id: {} for line in lines if line.id and line.identity}
    at = [0.0]
    collect = list(FUNCTIONS).index("collect")
    series |= {f"d{collect}": {0.0: 60_000.0}, f"i{collect}": {0.0: 100.0}, "write": {0.0: 1000.0}}
    periods = dict.fromkeys(series, 60)
    found = {
        line.label: calculate(line.expression, series, periods, at)[0.0]
        for line in lines
        if line.expression
    }
    minutes_a_day = 1440
    # 60 s of 1 GB and 100 invocations; 1,000 write units.
    assert found["Lambda"] == pytest.approx((60 * 0.0000133334 + 100 * 0.2e-6) * minutes_a_day)
    assert found["DynamoDB"] == pytest.approx(1000 * 0.625e-6 * minutes_a_day)
    assert found["API Gateway"] == 0


# --- metric math ------------------------------------------------------------------------------


def test_what_is_missing_stays_missing_unless_it_is_filled() -> None:
    series = {"a": {0.0: 1.0, 60.0: 2.0}, "b": {60.0: 10.0}}
    assert calculate("a+b", series, {}, [0.0, 60.0]) == {60.0: 12.0}
    assert calculate("a+FILL(b,0)", series, {}, [0.0, 60.0]) == {0.0: 1.0, 60.0: 12.0}


@pytest.mark.parametrize("text", ["c+1", "__import__('os')", "a if a else b", "FILL(1,2)", "a**2"])
def test_an_expression_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(MathInvalid):
        calculate(text, {"a": {0.0: 1.0}}, {}, [0.0])


# --- EMF as CloudWatch reads it ---------------------------------------------------------------


@given(st.text() | st.just("{}") | st.just('{"_aws": {"CloudWatchMetrics": [{}]}}'))
def test_a_line_that_is_no_emf_gives_no_data(line: str) -> None:
    assert list(data_of(line)) == []


DATA = st.builds(
    Datum,
    st.sampled_from(["A", "B"]),
    st.sampled_from(["x", "y"]),
    st.sampled_from([(("Stack", "s"),), (("Stack", "s"), ("T", "1m"))]),
    st.just("Count"),
    st.integers(0, 300_000),
    st.lists(st.integers(0, 400).map(float), min_size=1, max_size=400).map(tuple),
)


@given(st.lists(DATA, max_size=8))
def test_putting_by_minute_keeps_every_value(data: list[Datum]) -> None:
    put = by_minute(data)
    total = sum(
        value * count
        for found in put.values()
        for datum in found
        for value, count in zip(datum["Values"], datum["Counts"], strict=True)
    )
    assert total == sum(sum(datum.values) for datum in data)
    assert all(len(datum["Values"]) <= 150 for found in put.values() for datum in found)


# --- log queries ------------------------------------------------------------------------------


def lines(*records: dict[str, object]) -> list[dict[str, object]]:
    return [
        record_of({"timestamp": 1_800_000_000_000 + at, "message": json.dumps(record)}, "g")
        for at, record in enumerate(records)
    ]


FAILED = lines(
    {"event": "unit_failed", "symbol": "A", "timeframe": "1m", "reason": "X", "time": "1"},
    {"event": "unit_failed", "symbol": "B", "timeframe": "1m", "reason": "X", "time": "2"},
    {"event": "unit_failed", "symbol": "B", "timeframe": "1m", "reason": "X", "time": "3"},
    {"event": "other", "symbol": "B"},
)


def test_the_failing_symbol_stands_first_with_its_last_time() -> None:
    answer = run(dashboard.FAILED_UNITS, FAILED)
    assert answer.columns == ["symbol", "timeframe", "reason", "failures", "last"]
    assert answer.rows == [["B", "1m", "X", 2, "3"], ["A", "1m", "X", 1, "1"]]


@pytest.mark.parametrize(
    ("condition", "symbols"),
    [
        ('event = "unit_failed" and symbol != "A"', ["B", "B"]),
        ('symbol = "A" or event = "other"', ["A", "B"]),
        ('not (symbol = "B")', ["A"]),
        ('@message like /unit_.*"B"/', ["B", "B"]),
        ("ispresent(reason) and symbol like 'A'", ["A"]),
        ("time > 1", []),  # text and number do not compare
    ],
)
def test_a_filter_keeps_what_it_says(condition: str, symbols: list[str]) -> None:
    answer = run(f"fields symbol | filter {condition}", FAILED)
    assert [row[0] for row in answer.rows] == symbols


@pytest.mark.parametrize(
    "query", ["explode x", "filter a =", "filter (a = 1", "stats nope(a) by b"]
)
def test_a_query_that_is_not_understood_is_refused(query: str) -> None:
    with pytest.raises(QueryInvalid):
        run(query, FAILED)


def test_every_query_of_the_documentation_is_understood() -> None:
    page = (ROOT / "docs" / "OBSERVABILITY.md").read_text(encoding="utf-8")
    queries = re.findall(r"^```insights\n(.*?)^```", page, flags=re.S | re.M)
    assert len(queries) >= 5
    for query in queries:
        assert isinstance(run(query, FAILED), Answer)


# --- the picture ------------------------------------------------------------------------------


def test_a_board_with_and_without_data_is_drawn(tmp_path) -> None:
    at = {position: lines_of(widget) for position, widget in enumerate(WIDGETS)
          if widget["type"] == "metric"}  # fmt: skip
    for number, found in enumerate(at.values()):
        for line in found if number % 2 else []:
            line.values = {1_800_000_000.0: 0.0, 1_800_000_060.0: 17.0 * number}
    tables = {p: Answer(["symbol"], [["币安人生USDT"]] * 20 * (p % 2))
              for p, widget in enumerate(WIDGETS) if widget["type"] == "log"}  # fmt: skip
    arns = [arn for w in WIDGETS if w["type"] == "alarm" for arn in w["properties"]["alarms"]]
    states = {
        arn: (f"s-{arn}", "ALARM" if number == 3 else "OK") for number, arn in enumerate(arns)
    }
    board = Board("s", 1_799_999_400.0, 1_800_000_120.0, WIDGETS, at, tables, states)
    draw(board, tmp_path / "board.png")
    picture = (tmp_path / "board.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000

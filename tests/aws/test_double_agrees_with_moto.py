"""The simulated AWS says what moto says, call by call.

Everything that use cases are tested against rests on the double, so the double is tested against
an AWS that others wrote, through the very calls the functions use. Where moto is known to differ
from AWS, the case is left out here and stated with AWS's rule below.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.errors import CallFailed, ConditionFailed
from chalicelib.gateways.aws import run as drive
from tests.aws.conftest import Moto
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import Clock
from tests.doubles.s3 import Bucket
from tests.doubles.sqs import Queue
from tests.doubles.tables import Table
from tests.doubles.values import ordinal

KEY = {"pk": {"S": "TASK#1"}, "sk": {"S": "META"}}
OPTIONS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = st.integers(-3, 3).map(lambda n: {"N": str(n)})
texts = st.sampled_from(["a", "ab", "b", "é"]).map(lambda text: {"S": text})
number_sets = st.sets(st.integers(-2, 2), min_size=1).map(
    lambda members: {"NS": [str(member) for member in sorted(members)]}
)
text_sets = st.sets(st.sampled_from(["a", "ab", "b"]), min_size=1).map(
    lambda members: {"SS": sorted(members)}
)
#: Attributes keep their type, because moto answers 500 where AWS compares across types; there are no
#: empty texts, which moto refuses in expressions, and AWS has allowed since 2020.
KINDS = {"amount": numbers, "label": texts, "done": number_sets, "tags": text_sets}
MEMBERS = {"label": texts, "done": numbers, "tags": texts}
items = st.fixed_dictionaries({}, optional=KINDS)


class Expression:
    """An expression under construction: draws its operands and keeps their values."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.values: dict[str, Any] = {}

    def value(self, of: st.SearchStrategy[Any]) -> str:
        name = f":v{len(self.values)}"
        self.values[name] = self.draw(of)
        return name

    def one(self, *names: str) -> str:
        return str(self.draw(st.sampled_from(names)))

    def condition(self, depth: int = 2) -> str:
        kinds = ["compare", "equal", "between", "in", "exists", "contains", "begins", "size"]
        kinds += ["and", "or", "not"] if depth else []
        kind = self.one(*kinds)
        sign = self.one("=", "<", "<=", ">", ">=")
        match kind:
            case "compare":
                name = self.one("amount", "label")
                return f"{name} {sign} {self.value(KINDS[name])}"
            case "equal":
                name = self.one(*KINDS)
                return f"{name} = {self.value(KINDS[name])}"
            case "between":
                low, high = st.just({"N": "-1"}), st.sampled_from([{"N": "0"}, {"N": "2"}])
                return f"amount BETWEEN {self.value(low)} AND {self.value(high)}"
            case "in":
                name = self.one("amount", "label")
                return f"{name} IN ({self.value(KINDS[name])}, {self.value(KINDS[name])})"
            case "exists":
                return f"attribute_{self.one('', 'not_')}exists({self.one(*KINDS)})"
            case "contains":
                name = self.one(*MEMBERS)
                return f"contains({name}, {self.value(MEMBERS[name])})"
            case "begins":
                return f"(attribute_exists(label) AND begins_with(label, {self.value(texts)}))"
            case "size":
                name = self.one(*MEMBERS)
                return f"(attribute_exists({name}) AND size({name}) {sign} {self.value(numbers)})"
            case "not":
                negated = self.condition(depth - 1)
                return f"NOT {negated}" if negated.startswith("(") else f"NOT ({negated})"
        return f"({self.condition(depth - 1)} {kind.upper()} {self.condition(depth - 1)})"

    def update(self) -> str:
        names = self.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True))
        clauses: dict[str, list[str]] = {}
        for name in names:
            choices = ["SET", "REMOVE"]
            choices += ["ADD"] if name != "label" else []
            choices += ["DELETE"] if name in ("done", "tags") else []
            clause = self.one(*choices)
            action = name
            if clause == "SET":
                action = f"{name} = {self._assigned(name)}"
            elif clause != "REMOVE":
                action = f"{name} {self.value(KINDS[name])}"
            clauses.setdefault(clause, []).append(action)
        return " ".join(f"{clause} {', '.join(actions)}" for clause, actions in clauses.items())

    def _assigned(self, name: str) -> str:
        kinds = ["value", "path", "default"] + (["+", "-"] if name == "amount" else [])
        kind = self.one(*kinds)
        match kind:
            case "value":
                return self.value(KINDS[name])
            case "path":
                return name
            case "default":
                return f"if_not_exists({name}, {self.value(KINDS[name])})"
        return f"{name} {kind} {self.value(numbers)}"


@st.composite
def conditional_puts(draw: Any) -> dict[str, Any]:
    expression = Expression(draw)
    text = expression.condition()
    return _given(expression, Item={**KEY, **draw(items)}, ConditionExpression=text)


@st.composite
def conditional_updates(draw: Any) -> dict[str, Any]:
    expression = Expression(draw)
    parameters = {"Key": KEY, "UpdateExpression": expression.update()}
    if draw(st.booleans()):
        parameters["ConditionExpression"] = expression.condition(1)
    return _given(expression, ReturnValues="ALL_NEW", **parameters)


def _given(expression: Expression, **parameters: Any) -> dict[str, Any]:
    if expression.values:
        parameters["ExpressionAttributeValues"] = expression.values
    parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return parameters


@pytest.fixture(scope="module")
def tasks_table(moto: Moto) -> str:
    return moto.new_table()


@pytest.fixture
def double(tasks_table: str) -> Aws:
    return _double(tasks_table)


def _double(table: str) -> Aws:
    from infra import storage

    shape = storage.tables()["TasksTable"]
    return Aws(
        Clock(),
        {table: Table.from_template(shape)},
        {"queue": Queue()},
        {"bucket": Bucket()},
    )


def ask(call: Any, service: str, operation: str, **parameters: Any) -> Any:
    """What a call came to, in a form that can be compared: an answer, or an error's code."""
    try:
        answer = call(service, operation, **parameters)
    except ConditionFailed as failed:
        return "condition", failed.item and ordinal({"M": failed.item})
    except CallFailed as failed:
        return "failed", failed.code
    found = {}
    for name in ("Item", "Attributes", "LastEvaluatedKey"):
        if name in answer:
            found[name] = ordinal({"M": answer[name]})
    if "Items" in answer:
        found["Items"] = [ordinal({"M": item}) for item in answer["Items"]]
    if "Responses" in answer:
        found["Responses"] = {
            table: sorted(str(ordinal({"M": item})) for item in got)
            for table, got in answer["Responses"].items()
        }
    return found


def both(moto: Moto, double: Aws, service: str, operation: str, **parameters: Any) -> Any:
    """Ask both and assert that they agree; returns what they said."""

    def simulated(*args: Any, **kwargs: Any) -> Any:
        return drive(double(*args, **kwargs))

    theirs = ask(moto, service, operation, **parameters)
    ours = ask(simulated, service, operation, **parameters)
    assert ours == theirs, (operation, parameters)
    return ours


@OPTIONS
@given(before=items, put=conditional_puts())
def test_a_condition_holds_in_the_double_exactly_where_it_holds_in_moto(
    moto: Moto, tasks_table: str, before: dict[str, Any], put: dict[str, Any]
) -> None:
    double = _double(tasks_table)
    both(moto, double, "dynamodb", "PutItem", TableName=tasks_table, Item={**KEY, **before})
    both(moto, double, "dynamodb", "PutItem", TableName=tasks_table, **put)
    both(moto, double, "dynamodb", "GetItem", TableName=tasks_table, Key=KEY)


@OPTIONS
@given(before=items, update=conditional_updates())
def test_an_update_leaves_the_same_item_in_the_double_as_in_moto(
    moto: Moto, tasks_table: str, before: dict[str, Any], update: dict[str, Any]
) -> None:
    double = _double(tasks_table)
    both(moto, double, "dynamodb", "PutItem", TableName=tasks_table, Item={**KEY, **before})
    both(moto, double, "dynamodb", "UpdateItem", TableName=tasks_table, **update)
    both(moto, double, "dynamodb", "GetItem", TableName=tasks_table, Key=KEY)

"""The simulated AWS says what an AWS of others says, call by call.

Everything that use cases are tested against rests on the double, so the double is tested against
that one, through the very calls the functions use. Where moto is known to differ
from AWS, the case is left out here and stated with AWS's rule below.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws.calls import run as drive
from chalicelib.core.errors import CallFailed, ConditionFailed
from infra import storage
from tests.aws.endpoint import Endpoint
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
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
#: Attributes keep their type, because moto answers 500 where AWS compares across types; there are
#: no empty texts, which moto refuses in expressions, and AWS has allowed since 2020.
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
def tasks_table(endpoint: Endpoint) -> str:
    return endpoint.new_table()


@pytest.fixture
def double(tasks_table: str) -> Aws:
    return _double(tasks_table)


def _double(table: str) -> Aws:
    return Aws(Clock(), {table: Table.from_template(storage.tables()["TasksTable"])})


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


def both(endpoint: Endpoint, double: Aws, service: str, operation: str, **parameters: Any) -> Any:
    """Ask both and assert that they agree; returns what they said."""

    def simulated(*args: Any, **kwargs: Any) -> Any:
        return drive(double(*args, **kwargs))

    parameters = endpoint.without_old_items(parameters)
    theirs = ask(endpoint, service, operation, **parameters)
    ours = ask(simulated, service, operation, **parameters)
    assert ours == theirs, (operation, parameters)
    return ours


@OPTIONS
@given(before=items, put=conditional_puts())
def test_a_condition_holds_in_the_double_exactly_where_it_holds_in_the_store(
    endpoint: Endpoint, tasks_table: str, before: dict[str, Any], put: dict[str, Any]
) -> None:
    double = _double(tasks_table)
    both(endpoint, double, "dynamodb", "PutItem", TableName=tasks_table, Item={**KEY, **before})
    both(endpoint, double, "dynamodb", "PutItem", TableName=tasks_table, **put)
    both(endpoint, double, "dynamodb", "GetItem", TableName=tasks_table, Key=KEY)


@OPTIONS
@given(before=items, update=conditional_updates())
def test_an_update_leaves_the_same_item_in_the_double_as_in_the_store(
    endpoint: Endpoint, tasks_table: str, before: dict[str, Any], update: dict[str, Any]
) -> None:
    double = _double(tasks_table)
    both(endpoint, double, "dynamodb", "PutItem", TableName=tasks_table, Item={**KEY, **before})
    both(endpoint, double, "dynamodb", "UpdateItem", TableName=tasks_table, **update)
    both(endpoint, double, "dynamodb", "GetItem", TableName=tasks_table, Key=KEY)


@st.composite
def _listed(draw: Any) -> list[dict[str, Any]]:
    """Items for the by_owner index, some without its keys."""
    listed = []
    for number in range(draw(st.integers(0, 9))):
        item = {"pk": {"S": f"TASK#{number}"}, "sk": {"S": "META"}, "state": {"S": "pending"}}
        if draw(st.booleans()):
            item["owner"] = {"S": draw(st.sampled_from(["me", "you"]))}
        if draw(st.booleans()):
            item["created_key"] = {"S": f"{draw(st.integers(0, 5))}#{number}"}
        if draw(st.booleans()):
            item["state"] = {"S": "running"}
        listed.append({**item, "priority": {"S": "high"}, "rev": {"N": str(number)}})
    return listed


@settings(OPTIONS, max_examples=40)
@given(
    listed=_listed(),
    limit=st.integers(1, 4),
    forward=st.booleans(),
    before=st.none() | st.sampled_from(["1", "3#2", "9"]),
    state=st.none() | st.sampled_from(["pending", "running"]),
)
def test_an_index_is_paged_through_in_the_same_order_as_in_the_store(
    endpoint: Endpoint,
    listed: list[dict[str, Any]],
    limit: int,
    forward: bool,
    before: str | None,
    state: str | None,
) -> None:
    table = endpoint.new_table()
    double = _double(table)
    for item in listed:
        both(endpoint, double, "dynamodb", "PutItem", TableName=table, Item=item)
    query: dict[str, Any] = {
        "TableName": table,
        "IndexName": "by_owner",
        "KeyConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": "me"}},
        "ScanIndexForward": forward,
        "Limit": limit,
    }
    if before is not None:
        query["KeyConditionExpression"] += " AND created_key < :before"
        query["ExpressionAttributeValues"][":before"] = {"S": before}
    if state is not None:
        query["FilterExpression"] = "#state = :state"
        query["ExpressionAttributeNames"]["#state"] = "state"
        query["ExpressionAttributeValues"][":state"] = {"S": state}

    def simulated(*args: Any, **kwargs: Any) -> Any:
        return drive(double(*args, **kwargs))

    # Whole lists, not pages: DynamoDB may name a last key where nothing follows, and moto does not.
    assert _all_pages(simulated, query) == _all_pages(endpoint, query)


def _all_pages(call: Any, query: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    start: dict[str, Any] = {}
    while True:
        answer = call("dynamodb", "Query", **query, **start)
        found += [ordinal({"M": item}) for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            return found
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _update(text: str, condition: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    names, values = more.pop("names", None), more.pop("values", None)
    parameters: dict[str, Any] = {"Key": KEY, "UpdateExpression": text}
    if condition is not None:
        parameters["ConditionExpression"] = condition
    if names is not None:
        parameters["ExpressionAttributeNames"] = names
    if values is not None:
        parameters["ExpressionAttributeValues"] = values
    return "UpdateItem", parameters


def _query(condition: str, **more: Any) -> tuple[str, dict[str, Any]]:
    names = {":a": {"S": "a"}, ":b": {"S": "b"}}
    used = {name: value for name, value in names.items() if name in condition + str(more)}
    return "Query", {
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": used,
        **more,
    }


ONE = {":one": {"N": "1"}}
#: AWS answers ValidationException to these (Developer Guide, API Reference, and the service's own
#: messages). Each emulator lets some of them pass, answers 500, or gives another code.
REFUSED = {
    "a reserved word": _update("SET ttl = :one", values=ONE),
    "a reserved word in capitals": _update("SET Size = :one", values=ONE),
    "a reserved word in a condition": _update("SET a = :one", "state = :one", values=ONE),
    "an unused name": _update("SET a = :one", names={"#b": "b"}, values=ONE),
    "an unused value": _update("SET a = :one", values={**ONE, ":two": {"N": "2"}}),
    "an undefined value": _update("SET a = :one + :two", values=ONE),
    "no values for an expression": _update("SET a = :one"),
    "empty values": _update("REMOVE a", values={}),
    "an empty update": _update("", values=ONE),
    "an empty set": _update("ADD a :none", values={":none": {"NS": []}}),
    "adding a text": _update("ADD a :text", values={":text": {"S": "a"}}),
    "an update of the key": _update("SET sk = :text", values={":text": {"S": "a"}}),
    "an attribute set twice": _update("SET a = :one, a = :one", values=ONE),
    "an attribute set and removed": _update("SET a = :one REMOVE a", values=ONE),
    "SET twice": _update("SET a = :one SET b = :one", values=ONE),
    "an attribute that is not there": _update("SET a = absent", names=None),
    "a sum with an attribute that is not there": _update("SET a = absent + :one", values=ONE),
    "redundant parentheses": _update("SET a = :one", "((a = :one))", values=ONE),
    "a query without the partition": _query("sk = :a"),
    "a query of a range of partitions": _query("pk > :a"),
    "a consistent query of an index": _query(
        "active = :a", IndexName="active", ConsistentRead=True
    ),
    "an empty partition key": ("GetItem", {"Key": {"pk": {"S": ""}, "sk": {"S": "a"}}}),
    "half a key": ("GetItem", {"Key": {"pk": {"S": "a"}}}),
    "a key too long": ("PutItem", {"Item": {"pk": {"S": "a" * 2049}, "sk": {"S": "a"}}}),
    "an item too large": ("PutItem", {"Item": {**KEY, "a": {"S": "a" * 410_000}}}),
    "a stored empty set": ("PutItem", {"Item": {**KEY, "a": {"SS": []}}}),
    "an undefined name": _update("SET #a = :one", values=ONE),
    "a half condition": _update("SET a = :one", "a =", values=ONE),
    "an open parenthesis": _update("SET a = :one", "(a = :one", values=ONE),
    "a query of an unknown index": _query("pk = :a", IndexName="by_nothing"),
    "a number for a key": ("GetItem", {"Key": {"pk": {"N": "1"}, "sk": {"S": "a"}}}),
    "a sort key too long": ("GetItem", {"Key": {"pk": {"S": "a"}, "sk": {"S": "a" * 1025}}}),
    "a filter on the key": _query("pk = :a", FilterExpression="sk = :b"),
    "an index key of another type": ("PutItem", {"Item": {**KEY, "owner": {"N": "1"}}}),
    "an empty text for a sort key": (
        "Query",
        {
            "KeyConditionExpression": "pk = :a AND sk < :b",
            "ExpressionAttributeValues": {":a": {"S": "a"}, ":b": {"S": ""}},
        },
    ),
    "a text that is no Unicode": ("PutItem", {"Item": {**KEY, "a": {"S": "\ud800"}}}),
    "an expression too long": _update("SET a = :one", " OR ".join(["a = :one"] * 500), values=ONE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_aws_refuses_the_double_refuses(
    endpoint: Endpoint, double: Aws, tasks_table: str, what: str
) -> None:
    operation, parameters = REFUSED[what]
    asked = ("dynamodb", operation)
    parameters = {"TableName": tasks_table, **parameters}
    with pytest.raises(CallFailed) as refused:
        drive(double(*asked, **parameters))
    assert refused.value.code == "ValidationException"
    said = ask(endpoint, *asked, **parameters)
    endpoint.refuses(what, said == ("failed", "ValidationException"))


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        # Comparing across types is false, not an error; only <> is true of a missing attribute.
        ("amount < :text", {":text": {"S": "a"}}, False),
        ("amount = :text", {":text": {"S": "1"}}, False),
        ("amount <> :text", {":text": {"S": "1"}}, True),
        ("absent <> :text", {":text": {"S": "1"}}, True),
        ("absent = :text", {":text": {"S": "1"}}, False),
        ("begins_with(absent, :text)", {":text": {"S": "1"}}, False),
        ("size(absent) < :one", ONE, False),
        ("size(amount) < :one", ONE, False),
        ("contains(done, :one)", ONE, True),
        ("contains(done, :text)", {":text": {"S": "1"}}, False),
        ("NOT contains(absent, :one)", ONE, True),
        # NOT binds closest, then AND, then OR.
        ("NOT amount = :one OR amount = :one", ONE, True),
        ("amount = :one OR amount = :one AND absent = :one", ONE, True),
        ("NOT (amount = :one OR absent = :one)", ONE, False),
    ],
)
def test_conditions_that_a_store_may_misjudge_follow_the_developer_guide(
    double: Aws, tasks_table: str, condition: str, values: dict[str, Any], holds: bool
) -> None:
    item = {**KEY, "amount": {"N": "1"}, "done": {"NS": ["1", "2"]}}
    drive(double("dynamodb", "PutItem", TableName=tasks_table, Item=item))
    said = ask(
        lambda *args, **kwargs: drive(double(*args, **kwargs)),
        "dynamodb",
        "PutItem",
        TableName=tasks_table,
        Item=item,
        ConditionExpression=condition,
        ExpressionAttributeValues=values,
    )
    assert said == ({} if holds else ("condition", None))


@pytest.mark.parametrize(
    "parts",
    [
        ("put", "delete"),
        ("put if gone", "delete"),
        ("put if old", "delete"),
        ("delete if old", "put"),
        ("delete if gone", "put"),
        ("delete if old", "delete"),
        ("put", "delete if gone"),
        ("update", "delete if old"),
        ("update", "delete if gone"),
    ],
)
@pytest.mark.parametrize("stored", [(), (0,), (1,), (0, 1)])
def test_a_transaction_does_all_or_nothing_in_the_double_as_in_the_store(
    endpoint: Endpoint, parts: tuple[str, str], stored: tuple[int, ...]
) -> None:
    table = endpoint.new_table()
    double = _double(table)
    keys = [{**KEY, "sk": {"S": name}} for name in ("first", "second")]
    for number in stored:
        both(endpoint, double, "dynamodb", "PutItem", TableName=table, Item=keys[number])
    asked = [_part(table, part, key) for part, key in zip(parts, keys, strict=True)]
    both(endpoint, double, "dynamodb", "TransactWriteItems", TransactItems=asked)
    for key in keys:
        both(endpoint, double, "dynamodb", "GetItem", TableName=table, Key=key)


def _part(table: str, what: str, key: dict[str, Any]) -> dict[str, Any]:
    """One part of a transaction: `put`, `update` or `delete`, perhaps on a condition."""
    kind, _, condition = what.partition(" if ")
    part: dict[str, Any] = {"TableName": table}
    if kind == "put":
        part["Item"] = {**key, "label": {"S": "a"}}
    else:
        part["Key"] = key
    if kind == "update":
        part |= {"UpdateExpression": "SET amount = :one", "ExpressionAttributeValues": ONE}
    if condition:
        exists = {"gone": "not_exists", "old": "exists"}[condition]
        part["ConditionExpression"] = f"attribute_{exists}(pk)"
    return {kind.capitalize(): part}

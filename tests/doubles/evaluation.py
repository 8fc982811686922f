"""What DynamoDB's expressions say of an item, and do to it."""

from __future__ import annotations

from typing import Any

from tests.doubles.expressions import Literal, Node, Path
from tests.doubles.values import (
    SET_TYPES,
    Invalid,
    Item,
    Value,
    number,
    ordinal,
    wire_number,
)

_ORDERED = ("S", "N", "B")


def holds(tree: Node, item: Item) -> bool:
    """Whether a condition holds for an item; {} stands for none."""
    kind, parts = tree.kind, tree.parts
    match kind:
        case "and":
            return holds(parts[0], item) and holds(parts[1], item)
        case "or":
            return holds(parts[0], item) or holds(parts[1], item)
        case "not":
            return not holds(parts[0], item)
        case "attribute_exists":
            return parts[0].name in item
        case "attribute_not_exists":
            return parts[0].name not in item
    found = [_value(part, item) for part in parts]
    match kind:
        case "attribute_type":
            return found[0] is not None and [*found[0]] == [found[1]["S"]]
        case "contains":
            return _contains(found[0], found[1])
        case "begins_with":
            return _begins_with(found[0], found[1])
        case "between":
            return _compare(">=", found[0], found[1]) and _compare("<=", found[0], found[2])
        case "in":
            return any(_compare("=", found[0], choice) for choice in found[1:])
    return _compare(kind, found[0], found[1])


def updated(clauses: dict[str, list[tuple[str, Any]]], item: Item, keys: tuple[str, ...]) -> Item:
    """The item after an update expression; every right side reads the item as it was."""
    after = dict(item)
    for clause, actions in clauses.items():
        for name, operand in actions:
            if name in keys:
                raise Invalid(f"Cannot update attribute {name}. It is part of the key")
            if clause == "SET":
                after[name] = _assigned(operand, item)
            elif clause == "REMOVE":
                after.pop(name, None)
            elif clause == "ADD":
                after[name] = _added(item.get(name), operand.value)
            else:
                left = _taken_out(item.get(name), operand.value)
                after.pop(name, None)
                if left is not None:
                    after[name] = left
    return after


def _value(operand: Any, item: Item) -> Value | None:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Path):
        return item.get(operand.name)
    found = _value(operand.parts[0], item)  # the only function of operands is size
    if found is None:
        return None
    ((kind, content),) = found.items()
    if kind not in ("S", "B", "M", "L", *SET_TYPES):
        return None
    return {"N": str(len(content))}


def _compare(sign: str, left: Value | None, right: Value | None) -> bool:
    if left is None or right is None:
        # An attribute that is missing differs from every value, and compares with none.
        return sign == "<>" and left is not right
    if sign == "=":
        return bool(ordinal(left) == ordinal(right))
    if sign == "<>":
        return bool(ordinal(left) != ordinal(right))
    (kind,) = left
    if [kind] != [*right] or kind not in _ORDERED:
        return False
    low, high = ordinal(left)[1], ordinal(right)[1]
    return bool(
        low < high
        if sign == "<"
        else low <= high
        if sign == "<="
        else low > high
        if sign == ">"
        else low >= high
    )


def _contains(whole: Value | None, part: Value | None) -> bool:
    if whole is None or part is None:
        return False
    ((kind, content),) = whole.items()
    (wanted,) = part
    if kind in ("S", "B"):
        return wanted == kind and part[wanted] in content
    if kind in SET_TYPES:
        return wanted == SET_TYPES[kind] and any(
            ordinal({wanted: member}) == ordinal(part) for member in content
        )
    return kind == "L" and any(ordinal(member) == ordinal(part) for member in content)


def _begins_with(whole: Value | None, start: Value | None) -> bool:
    if whole is None or start is None or [*whole] != [*start]:
        return False
    ((kind, content),) = whole.items()
    return kind in ("S", "B") and bool(content.startswith(start[kind]))


def _assigned(operand: Any, item: Item) -> Value:
    if isinstance(operand, Node):
        if operand.kind == "if_not_exists":
            found = item.get(operand.parts[0].name)
            return found if found is not None else _assigned(operand.parts[1], item)
        left, right = (_assigned(part, item) for part in operand.parts)
        if operand.kind == "list_append":
            if "L" not in left or "L" not in right:
                raise Invalid("An operand in the update expression has an incorrect data type")
            return {"L": [*left["L"], *right["L"]]}
        if "N" not in left or "N" not in right:
            raise Invalid("An operand in the update expression has an incorrect data type")
        sign = 1 if operand.kind == "+" else -1
        return wire_number(number(left) + sign * number(right))
    found = _value(operand, item)
    if found is None:
        raise Invalid("The provided expression refers to an attribute that does not exist")
    return found


def _added(old: Value | None, amount: Value) -> Value:
    ((kind, content),) = amount.items()
    if kind != "N" and kind not in SET_TYPES:
        raise Invalid(f"Incorrect operand type for operator or function; operator: ADD: {kind}")
    if old is None:
        return amount
    if kind not in old:
        raise Invalid("An operand in the update expression has an incorrect data type")
    if kind == "N":
        return wire_number(number(old) + number(amount))
    have = {ordinal({SET_TYPES[kind]: member}) for member in old[kind]}
    fresh = [m for m in content if ordinal({SET_TYPES[kind]: m}) not in have]
    return {kind: [*old[kind], *fresh]}


def _taken_out(old: Value | None, members: Value) -> Value | None:
    ((kind, content),) = members.items()
    if kind not in SET_TYPES:
        raise Invalid(f"Incorrect operand type for operator or function; operator: DELETE: {kind}")
    if old is None:
        return None
    if kind not in old:
        raise Invalid("An operand in the update expression has an incorrect data type")
    gone = {ordinal({SET_TYPES[kind]: member}) for member in content}
    left = [m for m in old[kind] if ordinal({SET_TYPES[kind]: m}) not in gone]
    return {kind: left} if left else None

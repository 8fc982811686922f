"""DynamoDB's typed values in wire form: what is valid, what equals what, what comes first.

Rules from the Amazon DynamoDB Developer Guide: data types, naming rules, service quotas.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]

SET_TYPES = {"SS": "S", "NS": "N", "BS": "B"}
_MOST_ITEM_BYTES = 400 * 1024
_MOST_KEY_BYTES = {"HASH": 2048, "RANGE": 1024}


class Invalid(Exception):
    """DynamoDB's ValidationException."""


def checked(value: Value) -> Value:
    """`value` itself. Raises Invalid where DynamoDB would refuse it."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Invalid(f"Supplied AttributeValue must have exactly one type: {value!r}")
    ((kind, content),) = value.items()
    if kind == "S":
        _text(content)
    elif kind == "N":
        number(value)
    elif kind == "B":
        if not isinstance(content, (bytes, bytearray)):
            raise Invalid(f"a binary value must be bytes: {content!r}")
    elif kind in SET_TYPES:
        members = [checked({SET_TYPES[kind]: member}) for member in content]
        if not members:
            raise Invalid("An number/string/binary set may not be empty")
        if len({ordinal(member) for member in members}) != len(members):
            raise Invalid("Input collection contains duplicates")
    elif kind == "M":
        checked_item(content)
    elif kind == "L":
        for member in content:
            checked(member)
    elif kind == "BOOL":
        if not isinstance(content, bool):
            raise Invalid(f"BOOL must be a boolean: {content!r}")
    elif kind == "NULL":
        if content is not True:
            raise Invalid("Null attribute value types must have the value of true")
    else:
        raise Invalid(f"unknown type {kind}")
    return value


def checked_item(item: Item) -> Item:
    for name, value in item.items():
        _text(name)
        checked(value)
    if sum(len(name.encode()) + size(value) for name, value in item.items()) > _MOST_ITEM_BYTES:
        raise Invalid("Item size has exceeded the maximum allowed size")
    return item


def checked_key(name: str, role: str, value: Value | None) -> Value:
    """A key attribute: our tables have texts for keys, which must not be empty."""
    if value is None:
        raise Invalid(f"One of the required keys was not given a value: {name}")
    checked(value)
    if "S" not in value:
        raise Invalid(f"Type mismatch for key {name}")
    if not value["S"]:
        raise Invalid(f"a key attribute cannot contain an empty string value. Key: {name}")
    if len(value["S"].encode()) > _MOST_KEY_BYTES[role]:
        raise Invalid(f"Size of {role} key has exceeded the maximum: {name}")
    return value


def copied(value: Any) -> Any:
    """A copy of a request, an answer or an item: what one side changes the other never sees."""
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    if isinstance(value, list):
        return [copied(part) for part in value]
    return value  # texts, bytes and booleans cannot be changed


def number(value: Value) -> Decimal:
    text = value.get("N")
    if not isinstance(text, str):
        raise Invalid(f"a number travels as text: {value!r}")
    return _amount(text)


@lru_cache(maxsize=65_536)
def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except (ArithmeticError, ValueError):
        raise Invalid(f"not a number: {text!r}") from None
    if not amount.is_finite():
        raise Invalid(f"not a number: {text!r}")
    if len(amount.normalize().as_tuple().digits) > 38:
        raise Invalid("Attempting to store more than 38 significant digits in a Number")
    return amount


def wire_number(amount: Decimal) -> Value:
    """A number as DynamoDB writes it: without exponent and trailing zeros."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return {"N": "0" if text in ("-0", "") else text}


def ordinal(value: Value) -> Any:
    """What stands for the value in comparisons: equal values, equal ordinals."""
    ((kind, content),) = value.items()
    if kind == "N":
        return kind, number(value)
    if kind == "B":
        return kind, bytes(content)
    if kind == "S":
        return kind, content.encode()  # DynamoDB orders texts by their UTF-8 bytes
    if kind in SET_TYPES:
        return kind, frozenset(ordinal({SET_TYPES[kind]: member}) for member in content)
    if kind == "L":
        return kind, tuple(map(ordinal, content))
    if kind == "M":
        return kind, frozenset((name, ordinal(member)) for name, member in content.items())
    return kind, content


def same(one: Item | None, other: Item | None) -> bool:
    """Whether two items hold equal values; None is no item."""
    if not one or not other:
        return not one and not other
    return one.keys() == other.keys() and all(
        value == other[name] or ordinal(value) == ordinal(other[name])
        for name, value in one.items()
    )


def size(value: Value) -> int:
    """About as many bytes as DynamoDB counts for a value."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return len(content) // 2 + 2
    if kind == "B":
        return len(content)
    if kind in SET_TYPES:
        return sum(size({SET_TYPES[kind]: member}) for member in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + size(member) for name, member in content.items())
    if kind == "L":
        return 3 + sum(1 + size(member) for member in content)
    return 1


def _text(content: Any) -> None:
    try:
        content.encode()
    except (AttributeError, UnicodeEncodeError):
        raise Invalid(f"not a text: {content!r}") from None

"""DynamoDB's wire form of plain Python values.

Only the types that our items use: str, int, bytes, bool, None, list, dict, and sets of int or str.
No item of ours holds a fraction. boto3's serializer is not used, because it turns every number into
a Decimal and costs the API's cold start an import.
"""

from __future__ import annotations

from typing import Any

Wire = dict[str, Any]


def to_wire(value: Any) -> Wire:
    """One value in wire form. Raises TypeError for a type our items do not use."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bytes):
        return {"B": value}
    if isinstance(value, (set, frozenset)):
        if all(isinstance(member, int) for member in value):
            return {"NS": [str(member) for member in sorted(value)]}
        return {"SS": sorted(value)}
    if isinstance(value, dict):
        return {"M": {key: to_wire(member) for key, member in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"L": [to_wire(member) for member in value]}
    raise TypeError(f"no wire form for {type(value).__name__}")


def from_wire(wire: Wire) -> Any:
    """The value. Raises TypeError for a type our items do not use."""
    ((kind, value),) = wire.items()
    match kind:
        case "S" | "BOOL":
            return value
        case "N":
            return int(value)
        case "NS":
            return {int(member) for member in value}
        case "SS":
            return set(value)
        case "M":
            return item_from_wire(value)
        case "L":
            return [from_wire(member) for member in value]
        case "B":
            return bytes(value)
        case "NULL":
            return None
    raise TypeError(f"unknown wire type {kind}")


def item_to_wire(item: dict[str, Any]) -> Wire:
    return {name: to_wire(value) for name, value in item.items()}


def item_from_wire(wire: Wire) -> dict[str, Any]:
    return {name: from_wire(value) for name, value in wire.items()}

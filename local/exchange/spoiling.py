"""Bodies of answers as a rule of faults.BODIES spoils them."""

import json
import random
from typing import Any

from local.exchange.faults import Rule


def spoil_body(rule: Rule, body: bytes) -> bytes:
    """A JSON body, cut, in another form or order, or with other values."""
    if rule.kind == "drifted_rows":
        rows = json.loads(body)
        drifted = [{"row": row} for row in rows] if isinstance(rows, list) else rows
        return json.dumps(drifted).encode()
    if rule.kind == "truncated_json":
        return body[: len(body) // 2]
    if rule.kind in ("reordered_rows", "null_value"):
        rows = json.loads(body)
        return json.dumps(_change_rows(rule, rows) if isinstance(rows, list) else rows).encode()
    return json.dumps(_swap_types(json.loads(body))).encode()


def _change_rows(rule: Rule, rows: list[Any]) -> list[Any]:
    if rule.kind == "reordered_rows":
        mixed = random.Random(rule.struck).sample(rows, len(rows))
        return mixed if rule.mode == "shuffled" else rows[::-1]
    at = rule.open_time
    lists = (row for row in rows if isinstance(row, list))
    broken = next((row for row in lists if at is None or row[0] == at), None)
    return [[*row[:2], None, *row[3:]] if row is broken else row for row in rows]


def _swap_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _swap_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_swap_types(item) for item in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return [value]
    return str(value)

"""What DynamoDB bills for reads, counted while calls pass through the AWS in memory.

One read unit is 4 KB, and half a unit where the read is not consistent. A query costs what it goes
through, before its filter, together; single items and those of a batch cost each for itself, also
where there is none. Source: DynamoDB Developer Guide, "Read and write operations".
"""

from __future__ import annotations

from typing import Any

from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.values import size

_UNIT = 4096


class ReadUnits(Hook):
    def __init__(self, aws: Aws) -> None:
        self.read = 0.0
        self._aws = aws

    async def after(self, called: Called) -> None:
        if called.service != "dynamodb" or called.answer is None:
            return
        given, answer = called.parameters, called.answer
        if called.operation == "GetItem":
            self._add([answer.get("Item", {})], given.get("ConsistentRead", False))
        elif called.operation == "BatchGetItem":
            for table, asked in given["RequestItems"].items():
                found = answer["Responses"].get(table, [])
                for item in [*found, *[{}] * (len(asked["Keys"]) - len(found))]:
                    self._add([item], asked.get("ConsistentRead", False))
        elif called.operation == "Query":
            whole = answer
            if "FilterExpression" in given:
                let_through = f"attribute_exists(pk) OR {given['FilterExpression']}"
                unfiltered = {**given, "FilterExpression": let_through}
                whole = self._aws.dynamodb.apply("Query", unfiltered)
            self._add(whole["Items"], given.get("ConsistentRead", False))

    def _add(self, items: list[dict[str, Any]], consistent: bool) -> None:
        units = max(1, -(-sum(size({"M": item}) for item in items) // _UNIT))
        self.read += units if consistent else units / 2

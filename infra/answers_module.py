"""The client's types of answers, from docs/openapi.json:

python -m infra.answers_module > market_data_collector/answers.py
"""

from __future__ import annotations

import json
import keyword
import re
import subprocess
import sys
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.package import ROOT

PLACE = ROOT / "market_data_collector" / "answers.py"
HEAD = '''"""What the API answers, and the options of what it is asked. Made from docs/openapi.json:

    python -m infra.answers_module > market_data_collector/answers.py

Answers are JSON objects, and reach the caller as they came: a newer API may send more fields.
"""

from typing import Any, Literal, NotRequired, TypedDict
'''
#: Options that methods take by keyword: their name -> the schema, and what methods take otherwise.
OPTIONS = {
    "CollectionOptions": ("StartRequest", {"symbols", "timeframes", "start", "end", "dry_run"}),
    "FillOptions": ("FillRequest", {"symbols", "timeframes", "start", "end"}),
    "VerifyOptions": ("VerifyRequest", {"symbols", "timeframes", "start", "end"}),
    "ScheduleOptions": ("NewSchedule", {"expression", "request"}),
    "ScheduleChange": ("ScheduleChange", set()),
}
_SIMPLE = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
}
_WIDTH = 100
_REFERENCE = "#/components/schemas/"


@dataclass
class _Module:
    """`made`: the text of each type, those that others name before them."""

    schemas: dict[str, Any]
    #: Those that are types already, whatever else there is; others may go on from them.
    answers: Collection[str] = ()
    made: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, schema: dict[str, Any], without: Collection[str] = ()) -> str:
        """The type `name`, which is made unless it is there."""
        if name in self.made:
            return name
        if schema.get("type") == "object" and "properties" in schema:
            text = self._record(name, schema, without)
        else:
            text = f"{name} = {self.spelt(schema, name)}\n"
        self.made[name] = text
        return name

    def spelt(self, schema: dict[str, Any], name: str) -> str:
        """How a schema is spelt; `name`: of a record that has none of its own."""
        if "$ref" in schema:
            named = schema["$ref"].removeprefix(_REFERENCE)
            return self.add(named, self.schemas[named])
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return f"Literal[{', '.join(map(_literal, values))}]"
        if "anyOf" in schema:
            return _either(self.spelt(each, name) for each in schema["anyOf"])
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return _either(self.spelt({**schema, "type": kind}, name) for kind in kinds)
        if kinds == "array":
            return f"list[{self.spelt(schema['items'], name)}]"
        if kinds == "object" and "properties" in schema:
            return self.add(name, schema)
        if kinds == "object":
            values = schema.get("additionalProperties")
            inner = self.spelt(values, name) if isinstance(values, dict) else "Any"
            return f"dict[str, {inner}]"
        return _SIMPLE[kinds] if kinds else "Any"

    def _record(self, name: str, schema: dict[str, Any], without: Collection[str]) -> str:
        lines, needed = [], set(schema.get("required", ()))
        base = None if without else self._base(schema)
        inherited = self.schemas[base]["properties"] if base else {}
        for key, value in schema["properties"].items():
            if key in without or key in inherited:
                continue
            if not key.isidentifier() or keyword.iskeyword(key):
                raise ValueError(f"{name}.{key} cannot be a field")
            spelt = self.spelt(value, name + key.title().replace("_", ""))
            lines.append(f"    {key}: {spelt if key in needed else f'NotRequired[{spelt}]'}\n")
        described = schema.get("description", "")
        doc = _documented(described) if described else ""
        above = self.add(base, self.schemas[base]) if base else "TypedDict"
        return f"class {name}({above}):\n{doc}{''.join(lines)}"

    def _base(self, schema: dict[str, Any]) -> str | None:
        """The answer that has most of the fields of this one, and no others: two thirds at least,
        as a few may be the same by chance."""
        return max(
            (name for name in self.answers if _is_part(self.schemas[name], schema)),
            key=lambda name: len(self.schemas[name]["properties"]),
            default=None,
        )


def _fields(schema: dict[str, Any]) -> set[str]:
    """Each field, its schema, and whether it is always there."""
    needed = schema.get("required", ())
    fields = schema.get("properties", {}).items()
    return {json.dumps([key, value, key in needed], sort_keys=True) for key, value in fields}


def _is_part(one: dict[str, Any], other: dict[str, Any]) -> bool:
    these, those = _fields(one), _fields(other)
    return these < those and len(these) * 3 >= len(those) * 2


def _documented(text: str) -> str:
    lines = textwrap.wrap(f'"""{text}', _WIDTH - 7)
    closed = [*lines[:-1], lines[-1] + '"""'] if len(lines) == 1 else [*lines, '"""']
    return textwrap.indent("\n".join(closed), "    ") + "\n\n"


def _literal(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _either(parts: Iterator[str]) -> str:
    return " | ".join(dict.fromkeys(parts))


def module() -> str:
    """The text of market_data_collector/answers.py."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    answers = ("Problem", *_answered(document))
    found = _Module(document["components"]["schemas"], _named(document, answers))
    for name in answers:
        found.add(name, found.schemas[name])
    for name, (schema, without) in OPTIONS.items():
        found.add(name, found.schemas[schema], without)
    text = HEAD + "".join(_apart(text) for text in found.made.values())
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PLACE), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _apart(text: str) -> str:
    return ("\n\n" if text.startswith("class") else "\n") + text


def _named(document: dict[str, Any], answers: Collection[str]) -> set[str]:
    """Those schemas, and all that they name."""
    schemas, left, found = document["components"]["schemas"], [*answers], set[str]()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += re.findall(f'"{_REFERENCE}(\\w+)"', json.dumps(schemas[name]))
    return found


def _answered(document: dict[str, Any]) -> Iterator[str]:
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation.get("responses", {}).items():
                for content in answer.get("content", {}).values() if status < "3" else ():
                    if "$ref" in content["schema"]:
                        yield content["schema"]["$ref"].removeprefix(_REFERENCE)


if __name__ == "__main__":
    sys.stdout.write(module())

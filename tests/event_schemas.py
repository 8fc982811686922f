"""The published schemas of events (docs/events), and validators of them."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from infra.package import ROOT

FOLDER = ROOT / "docs" / "events"
Schema = dict[str, Any]

_FILES: dict[str, Schema] = {
    path.name.removesuffix(".v1.schema.json"): json.loads(path.read_text(encoding="utf-8"))
    for path in FOLDER.glob("*.schema.json")
}
#: What the schemas of all actions refer to.
ENVELOPE = _FILES.pop("envelope")
#: Action -> its schema.
SCHEMAS = _FILES
_REGISTRY: Registry[Schema] = Registry().with_resource(
    ENVELOPE["$id"], Resource.from_contents(ENVELOPE)
)


def problems(detail: Schema) -> list[str]:
    """What is wrong with a published event, by the schema of its action."""
    checker = Draft202012Validator(
        SCHEMAS[detail["action"]], format_checker=FormatChecker(), registry=_REGISTRY
    )
    return [f"{detail['action']}: {error.message}" for error in checker.iter_errors(detail)]


def whole(schema: Schema) -> Schema:
    """A schema with the envelope's fields among its own, as if it referred to nothing."""
    address, _, place = schema.get("$ref", "").partition("#/$defs/")
    if not place:
        return schema
    assert address in ("", ENVELOPE["$id"])
    base = whole(ENVELOPE["$defs"][place])
    properties = {name: {**part} for name, part in base["properties"].items()}
    for name, part in schema.get("properties", {}).items():
        properties[name] = {**properties.get(name, {}), **part}
    required = [*base.get("required", []), *schema.get("required", [])]
    return {**base, **schema, "required": required, "properties": properties}

"""Pages of the documentation site that are made from the code: the API, the commands, the events,
and the list of decisions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

from chalicelib.api import routes, web
from chalicelib.api.reference import reference
from infra.configuration import ROOT
from market_data_collector.cli.commands import cli

DOCS = ROOT / "docs"


def api() -> str:
    assert routes.MODULES, "importing them registers the routes"
    spec = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    server = spec["servers"][0]["url"]
    blocks = reference(spec, web.SCOPES, web.PREFIX, server, _heading)
    about = "Made from [openapi.json](../openapi.json), the contract. [API](../API.md) explains it."
    return "\n\n".join(["# API reference", about, *blocks])


def _heading(level: int, anchor: str, text: str) -> str:
    plain = re.sub(r"</?code>", "`", text)
    return f"{'#' * level} {plain} {{ #{anchor} }}"


def commands() -> str:
    lines = [
        "# Command reference",
        "",
        "Made from the commands' own help. [CLI](../CLI.md) explains it.",
    ]
    lines += _command(click.Context(cli, info_name="data-collector"))
    return "\n".join(lines)


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = command.collect_usage_pieces(context)
    yield ""
    yield f"## {context.command_path}"
    yield ""
    yield f"```\n{' '.join([context.command_path, *usage])}\n```"
    yield ""
    yield _help(command.help or "")
    yield ""
    options = [record for each in command.params if (record := each.get_help_record(context))]
    if options:
        yield "| option | |"
        yield "|---|---|"
        for names, about in options:
            yield f"| `{_cell(names)}` | {_cell(_escaped(about))} |"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.commands[name]
            yield from _command(click.Context(inner, parent=context, info_name=name))


def _help(text: str) -> str:
    """Paragraphs, and as code those that click does not fill again."""
    parts = [part.strip("\n") for part in text.split("\n\n")]
    return "\n\n".join(
        f"```\n{part.removeprefix(_BLOCK).strip(chr(10))}\n```"
        if part.startswith(_BLOCK)
        else _escaped(part)
        for part in parts
        if part
    )


_BLOCK = "\b"


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_\[\]])", r"\\\1", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def events() -> str:
    files = sorted((DOCS / "events").glob("*.schema.json"))
    schemas = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in files}
    shared = {schema["$id"]: schema for schema in schemas.values()}
    lines = [
        "# Fields of events",
        "",
        "Made from the schemas. [Events](../EVENTS.md) explains them.",
    ]
    for name, schema in schemas.items():
        action = name.removesuffix(".v1.schema.json")
        if action != "envelope":
            lines += ["", f"## {action}", "", f"{schema['title']}. {schema.get('description', '')}"]
            lines += [
                "",
                f"[{name}]({name})",
                "",
                "| field | type | what it says |",
                "|---|---|---|",
            ]
            lines += _rows("", _merged(schema, schema, shared))
    return "\n".join(lines)


def _merged(schema: Any, document: Any, shared: dict[str, Any]) -> dict[str, Any]:
    """The properties of a schema and of those that it refers to."""
    found: dict[str, Any] = {}
    if "$ref" in schema:
        there, _, pointer = schema["$ref"].partition("#")
        document = shared[there] if there else document
        target = document
        for name in filter(None, pointer.split("/")):
            target = target[name]
        found = _merged(target, document, shared)
    for name, field in schema.get("properties", {}).items():
        inner = _merged(field, document, shared)
        found[name] = {**found.get(name, {}), **field} | ({"properties": inner} if inner else {})
    return found


def _rows(before: str, fields: dict[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        kind = field.get("type", "")
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        values = field.get("enum", [field["const"]] if "const" in field else [])
        kind = ", ".join(f"`{json.dumps(value)}`" for value in values) or kind
        yield f"| `{before}{name}` | {kind} | {_cell(field.get('description', ''))} |"
        yield from _rows(f"{before}{name}.", field.get("properties", {}))


def decisions() -> str:
    lines = ["# Decisions", "", "Why it is made as it is, one decision a page.", ""]
    for path in sorted((DOCS / "adr").glob("*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines)


#: Page of the site -> its text.
PAGES: dict[str, Callable[[], str]] = {
    "reference/api.md": api,
    "reference/cli.md": commands,
    "events/index.md": events,
    "adr/index.md": decisions,
}

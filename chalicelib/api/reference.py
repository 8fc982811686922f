"""The reference of the API, made from its OpenAPI document: HTML that needs nothing else.

`GET /docs` shows it, and the documentation site has it among its pages (infra/site_reference.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]
#: Level, anchor and text, already HTML, of a heading -> the heading.
Heading = Callable[[int, str, str], str]
#: (method, path below the API's root) -> the scopes of which a caller needs one.
Scopes = Mapping[tuple[str, str], tuple[str, ...]]
_METHODS = ("get", "post", "put", "patch", "delete")
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters or fewer",
    "minItems": "{} items or more",
    "maxItems": "{} items or fewer",
    "pattern": "matches {}",
}


def heading(level: int, anchor: str, text: str) -> str:
    return f'<h{level} id="{escape(anchor)}">{text}</h{level}>'


def reference(
    spec: Json, scopes: Scopes, root: str, server: str, heading: Heading = heading
) -> Iterator[str]:
    """The blocks of the page, in order: one for each route by its tag, then one for each schema.

    `root`: what paths of `scopes` are below. `server`: where the commands send their requests.
    """
    for paragraph in spec["info"]["description"].split("\n\n"):
        yield f"<p>{_prose(paragraph)}</p>"
    for tag in spec["tags"]:
        yield heading(2, tag["name"], escape(tag["name"].capitalize()))
        yield f"<p>{_prose(tag['description'])}</p>"
        for path, method, operation in _operations(spec, tag["name"]):
            below = path.removeprefix(root)
            yield heading(
                3, operation["operationId"], f"<code>{method.upper()} {escape(below)}</code>"
            )
            wanted = scopes[method.upper(), below]
            yield from _operation(spec, server + path, method, operation, wanted)
    yield heading(2, "schemas", "Schemas")
    for name, schema in sorted(spec["components"]["schemas"].items()):
        yield heading(3, f"schema-{name}", escape(name))
        yield from _schema(spec, schema)


def _operations(spec: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, item in spec["paths"].items():
        for method in _METHODS:
            if tag in item.get(method, {}).get("tags", ()):
                yield path, method, item[method]


def _operation(
    spec: Json, url: str, method: str, operation: Json, scopes: tuple[str, ...]
) -> Iterator[str]:
    yield f"<p><strong>{_prose(operation['summary'])}.</strong> "
    yield f"{_prose(operation.get('description', ''))}</p>"
    needed = " or ".join(f"<code>{escape(scope)}</code>" for scope in scopes)
    yield f"<p>Scope: {needed}</p>"
    parameters = [_resolved(spec, each) for each in operation.get("parameters", ())]
    body = operation.get("requestBody", {})
    yield f"<pre><code>{escape(_curl(url, method, parameters, body))}</code></pre>"
    if parameters:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>",
                f"{each['in']}{', required' if each.get('required') else ''}",
                _kind(spec, each["schema"]),
                _prose(each.get("description", "")),
            )
            for each in parameters
        ]
        yield _table(("parameter", "in", "type", "what it says"), rows)
    if body:
        for kind, content in body["content"].items():
            yield f"<p>Body: {_kind(spec, content['schema'])} (<code>{escape(kind)}</code>). "
            yield f"{_prose(body.get('description', ''))}</p>"
            yield from _examples(content)
    yield from _answers(spec, operation["responses"])


def _answers(spec: Json, responses: Json) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    examples: list[str] = []
    for status, answer in sorted(responses.items()):
        found = _resolved(spec, answer)
        kinds = {_kind(spec, content["schema"]) for content in found.get("content", {}).values()}
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in found.get("headers", ()))
        rows.append((status, " or ".join(sorted(kinds)), _prose(found["description"]), headers))
        if status < "300":
            for content in found.get("content", {}).values():
                examples += _examples(content)
    yield _table(("answer", "body", "when", "headers"), rows)
    yield from examples


def _examples(content: Json) -> Iterator[str]:
    named = {name: each["value"] for name, each in content.get("examples", {}).items()}
    if "example" in content:
        named["example"] = content["example"]
    for name, value in named.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
        summary = escape(name.replace("_", " "))
        text = re.sub(r"\n\n+", "\n", escape(text))
        yield f"<details><summary>{summary}</summary><pre><code>{text}</code></pre></details>"


def _schema(spec: Json, schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{_prose(schema['description'])}</p>"
    fields = schema.get("properties", {})
    if not fields:
        yield f"<p>{_kind(spec, schema)}</p>"
        return
    required = schema.get("required", ())
    rows = []
    for name, field in fields.items():
        about = field.get("description") or _resolved(spec, field).get("description", "")
        if "default" in field:
            about = f"{about} Default: `{json.dumps(field['default'])}`.".strip()
        always = "always" if name in required else ""
        rows.append((f"<code>{escape(name)}</code>", _kind(spec, field), always, _prose(about)))
    yield _table(("field", "type", "", "what it says"), rows)


def _kind(spec: Json, schema: Json) -> str:
    """What a value may be, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(spec, each) for each in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kinds = schema.get("type", "anything")
    text = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "items" in schema:
        text += f" of {_kind(spec, schema['items'])}"
    if "format" in schema:
        text += f" ({schema['format']})"
    if isinstance(schema.get("additionalProperties"), dict):
        text += f" of {_kind(spec, schema['additionalProperties'])}"
    bounds = [
        words.format(f"<code>{escape(str(schema[name]))}</code>")
        for name, words in _BOUNDS.items()
        if name in schema
    ]
    return ", ".join([text, *bounds])


def _curl(url: str, method: str, parameters: list[Any], body: Json) -> str:
    """A request as a shell takes it, with the values of the examples."""
    query = []
    for each in parameters:
        value = str(each.get("example", each["schema"].get("example", "…")))
        if each["in"] == "path":
            url = url.replace(f"{{{each['name']}}}", value)
        elif each["in"] == "query" and each.get("required"):
            query.append(f"{each['name']}={value}")
    url += f"?{'&'.join(query)}" if query else ""
    words = ["curl", *(("-X", method.upper()) if method != "get" else ()), f"'{url}'"]
    words.append('-H "Authorization: Bearer $DATA_COLLECTOR_KEY"')
    content = body.get("content", {}).get("application/json", {})
    values = [each["value"] for each in content.get("examples", {}).values()]
    values += [content["example"]] if "example" in content else []
    if values:
        text = json.dumps(values[0], ensure_ascii=False).replace("'", r"'\''")
        words += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " ".join(words)


def _resolved(spec: Json, value: Json) -> Json:
    found: Any = value
    while "$ref" in found:
        target: Any = spec
        for name in found["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        found = target
    return found  # type: ignore[no-any-return]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns in which nothing stands are left out."""
    kept = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    top = "".join(f"<th>{heads[at]}</th>" for at in kept)
    lines = "".join(
        "<tr>" + "".join(f"<td>{row[at]}</td>" for at in kept) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _prose(text: str) -> str:
    """Text of the document as HTML: code stands between backticks."""
    return re.sub(r"`(.*?)`", r"<code>\1</code>", escape(text, quote=False)).replace("\n", " ")

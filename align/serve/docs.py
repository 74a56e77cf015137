"""``/docs`` and ``/openapi.json``: the API's description, which needs nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from align.page.templates import environment, read_kit
from align.serve.openapi import describe
from align.serve.respond import PAGE_POLICY, Json
from align.serve.service import Service


class Row(NamedTuple):
    """A field of a request or an answer, for the page. depth: how far it is nested."""

    name: str
    type: str
    about: str
    required: bool
    depth: int = 0


class Operation(NamedTuple):
    """A route, for the page."""

    method: str
    path: str
    title: str
    asked: list[Row]
    answered: list[Row]
    example: str


async def openapi(request: Request) -> Response:
    """Answer with the description."""
    service: Service = request.app.state.service
    return Json(describe(service.limits))


async def docs(request: Request) -> Response:
    """Answer with the description as a page."""
    service: Service = request.app.state.service
    spec = describe(service.limits)
    html = environment().get_template("docs.html").render(
        title=spec["info"]["title"],
        about=spec["info"]["description"],
        version=spec["info"]["version"],
        operations=list(list_operations(spec)),
    )  # fmt: skip
    return HTMLResponse(html, headers={"content-security-policy": PAGE_POLICY})


async def style(request: Request) -> Response:
    """Answer with the style of the page."""
    return Response(read_kit("page.css") + "\n" + read_kit("docs.css"), media_type="text/css")


def list_operations(spec: dict[str, Any]) -> Iterator[Operation]:
    """Yield the routes of a description, in its order."""
    for path, methods in spec["paths"].items():
        for method, about in methods.items():
            content = about.get("requestBody", {}).get("content", {}).get("application/json", {})
            asked = [
                Row(p["name"], name_type(p["schema"]), f"{p['description']} ({p['in']})", p["required"])
                for p in about.get("parameters", ())
            ]
            asked += list_fields(content.get("schema", {}), spec)
            found = about["responses"]["200"].get("content", {}).get("application/json", {}).get("schema", {})
            example = json.dumps(content["example"], ensure_ascii=False) if "example" in content else ""
            yield Operation(method.upper(), path, about["summary"], asked, list_fields(found, spec), example)


def list_fields(schema: dict[str, Any], spec: dict[str, Any], depth: int = 0) -> list[Row]:
    """Return the fields of a schema, those of the objects in it behind each."""
    schema = _resolve(schema, spec)
    rows: list[Row] = []
    for name, field in schema.get("properties", {}).items():
        inner = _resolve(field, spec)
        about = field.get("description", "") or inner.get("description", "")
        rows.append(Row(name, name_type(field), about, name in schema.get("required", ()), depth))
        nested = inner.get("items", inner)
        if depth < 3 and "properties" in _resolve(nested, spec):
            rows += list_fields(nested, spec, depth + 1)
    return rows


def name_type(schema: dict[str, Any]) -> str:
    """Return a schema's type in a few words.

    >>> name_type({"type": "array", "items": {"$ref": "#/components/schemas/Hit"}})
    'list of Hit'
    """
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(name_type(one) for one in schema["anyOf"]))
    words = {"string": "text", "integer": "whole number", "array": "list", "boolean": "true | false", "null": "null"}
    kind = str(words.get(schema.get("type", ""), schema.get("type", "anything")))
    if kind == "list" and schema.get("items"):
        return f"list of {name_type(schema['items'])}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([kind, *bounds])


def _resolve(schema: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

"""Words for schemas (JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: list[str], about: str = "", **fields: Schema) -> Schema:
    """Return the schema of an object without other fields than these."""
    found: Schema = {"type": "object", "properties": fields, "additionalProperties": False}
    return {**found, **({"required": required} if required else {}), **({"description": about} if about else {})}


def list_of(items: Schema, **bounds: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **bounds}


def text(about: str = "", most: int | None = None) -> Schema:
    """Return the schema of a text."""
    return {"type": "string", **({"maxLength": most} if most else {}), **({"description": about} if about else {})}


def number(about: str = "") -> Schema:
    """Return the schema of a number."""
    return {"type": "number", **({"description": about} if about else {})}


def integer(low: int | None = None, high: int | None = None, about: str = "") -> Schema:
    """Return the schema of a whole number."""
    bounds = {k: v for k, v in (("minimum", low), ("maximum", high)) if v is not None}
    return {"type": "integer", **bounds, **({"description": about} if about else {})}


def maybe(schema: Schema) -> Schema:
    """Return a schema that null fits too."""
    return {"anyOf": [schema, {"type": "null"}]}


FREE: Schema = {"type": "object", "additionalProperties": True}

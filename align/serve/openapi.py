"""The description of the API (OpenAPI 3.1), which /docs draws."""

from __future__ import annotations

from typing import Any

import align
from align.serve.answered import answer_schemas
from align.serve.asked import request_schemas
from align.serve.limits import Limits
from align.serve.schemas import ref

ABOUT = (
    "One embedding space: ask with words, pictures, sounds and clouds, alone or together, and search among any of "
    "them. Errors have one form, and say which request would have worked."
)
EXAMPLES: dict[str, Any] = {
    "SearchRequest": {"query": "a red cone", "of": "image", "k": 5},
    "EmbeddingsRequest": {"input": ["a red cone", {"image": "data:image/png;base64,..."}]},
    "ClassifyRequest": {"classes": ["cat", "dog"], "modality": "image", "data": "data:image/png;base64,..."},
}


def describe(limits: Limits) -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "align", "version": align.__version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": {**request_schemas(limits), **answer_schemas()},
            "responses": {
                "Error": {
                    "description": "The request is not answered.",
                    "content": {"application/json": {"schema": ref("Error")}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths() -> dict[str, Any]:
    id = _parameter("id", "path", {"type": "integer", "minimum": 0}, "The item's number.")
    modality = _parameter("modality", "path", {"type": "string"}, "Of the file.")
    rows = {"type": "integer", "minimum": 0, "maximum": 999_999, "default": 0}
    row = _parameter("row", "query", rows, "Of several files, the number.")
    form = _parameter(
        "form", "query", {"enum": ["shown", "original"], "default": "shown"}, "As browsers show it, or as it is stored."
    )
    ranged = _parameter("Range", "header", {"type": "string"}, "A part of the file: bytes=0-1023.")
    where = _parameter("where", "query", {"type": "string"}, "A filter, as JSON.")
    name = _parameter("name", "path", {"type": "string"}, "The model's id.")
    file = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    media = _get("media", "A file of an item", "", id, modality, row, form, ranged)
    media["responses"]["200"] = {"description": "The file.", "content": file}
    media["responses"]["206"] = {"description": "A part of the file.", "content": file}
    media["responses"]["304"] = {"description": "The file is the one that the client has."}
    phrase = _parameter("text", "query", {"type": "string", "minLength": 1}, "The phrase.") | {"required": True}
    drawn = _parameter("form", "query", {"enum": ["json", "png"], "default": "json"}, "Numbers, or over the picture.")
    heat = _get("heat", "The places of a file that a phrase is about", "Heat", id, modality, row, phrase, drawn)
    heat["responses"]["200"]["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    metrics = _get("metrics", "Counts, in Prometheus' text form", "")
    metrics["responses"]["200"] = {"description": "The counts.", "content": text}
    page = {"text/html": {"schema": {"type": "string"}}}
    docs = _get("docs", "This description, as a page", "")
    docs["responses"]["200"] = {"description": "The page.", "content": page}
    described = _get("openapi", "This description", "")
    described["responses"]["200"] = {
        "description": "OpenAPI 3.1.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    return {
        "/v1/search": {"post": _post("search", "Search", "SearchRequest", "Search", "SearchForm")},
        "/v1/embeddings": {"post": _post("embeddings", "Embed texts and files", "EmbeddingsRequest", "Embeddings")},
        "/v1/classify": {
            "post": _post("classify", "Classify a file", "ClassifyRequest", "Classification", "ClassifyForm")
        },
        "/v1/items/{id}": {"get": _get("item", "An item", "Item", id)},
        "/v1/items/{id}/media/{modality}": {"get": media},
        "/v1/items/{id}/face/{modality}": {
            "get": _get("face", "A file made small for a page", "Face", id, modality, row)
        },
        "/v1/items/{id}/heat/{modality}": {"get": heat},
        "/v1/facets": {"get": _get("facets", "Keys that a filter can name, with counts", "Facets", where)},
        "/v1/models": {"get": _get("models", "The model", "Models")},
        "/v1/models/{name}": {"get": _get("model", "The model, by its id", "Model", name)},
        "/healthz": {"get": _get("healthz", "Whether requests are answered", "Health")},
        "/metrics": {"get": metrics},
        "/openapi.json": {"get": described},
        "/docs": {"get": docs},
    }


def _post(id: str, title: str, request: str, answer: str, form: str = "") -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": ref(request), "example": EXAMPLES[request]}}
    if form:
        content["multipart/form-data"] = {"schema": ref(form)}
    return {
        "operationId": id,
        "summary": title,
        "requestBody": {"required": True, "content": content},
        "responses": _responses(answer),
    }


def _get(id: str, title: str, answer: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": id,
        "summary": title,
        **({"parameters": list(parameters)} if parameters else {}),
        "responses": _responses(answer),
    }


def _responses(answer: str) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": ref(answer)}}} if answer else {}
    return {"200": {"description": "The answer.", **content}, "default": {"$ref": "#/components/responses/Error"}}


def _parameter(name: str, place: str, schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": about}

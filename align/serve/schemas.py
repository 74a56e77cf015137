"""The schemas of requests and answers (JSON Schema 2020-12), as openapi.json names them."""

from __future__ import annotations

from typing import Any

from align.serve.limits import Limits

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
HOW: Schema = {"enum": ["cosine", "mip", "objective"], "description": "The rule of the score."}
THRESHOLD: Schema = {
    "anyOf": [{"type": "number"}, {"const": "calibrated"}],
    "description": "The least score of a hit. calibrated: the one that align search --calibrate has stored.",
}


def request_schemas(limits: Limits) -> dict[str, Schema]:
    """Return the schemas of requests, with the server's bounds."""
    data = text("A data URI: data:image/png;base64,... No other address is read.")
    part = record(
        ["modality"],
        "One of text, data, id and file says it.",
        modality=text("The tower that reads it.", limits.name),
        text=text("", limits.text),
        data=data,
        name=text("The file's name. Its suffix tells the format of a mesh.", limits.name),
        id=integer(0, about="An item of the index, whose stored rows ask."),
        file=text("In a form: the field with the file.", limits.name),
        weight={**number("Its factor. A negative one asks for less of it."), "default": 1},
    )
    search = {
        "query": text("Short for a part of text.", limits.text),
        "parts": list_of(ref("Part"), maxItems=limits.parts),
        "of": text("The modality to search among.", limits.name),
        "k": {**integer(1, limits.k, "Hits at most."), "default": 20},
        "where": {**FREE, "description": 'A filter: {"label": "dog", "year": {"gte": 2000}}.'},
        "how": HOW,
        "threshold": THRESHOLD,
        "text": text("Words for the captions' full text, joined with the parts by rank, or alone.", limits.text),
        "fold": {"type": "boolean", "default": False, "description": "Near duplicates become one hit."},
        "like": integer(0, about="More like this item. It asks alone, and is left out."),
    }
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    one = {
        "anyOf": [
            text("", limits.text),
            {**FREE, "minProperties": 1, "maxProperties": 1, "description": 'One modality: {"image": "data:..."}.'},
        ]
    }
    words = {"anyOf": [list_of(text()), FREE, text()], "description": "Names, or label -> name in prompts."}
    classify = {
        "classes": words,
        "templates": {"anyOf": [list_of(text("", limits.name), maxItems=limits.templates), text("", limits.name)]},
        "modality": text("Of the file.", limits.name),
        "data": data,
        "name": text("The file's name.", limits.name),
    }
    return {
        "Part": part,
        "SearchRequest": record(["of"], "", **search),
        "SearchForm": {
            **files,
            "properties": {k: v for k, v in search.items() if k != "parts"} | {"parts": text("JSON.")},
        },
        "EmbeddingsRequest": record(
            ["input"],
            "",
            input={"anyOf": [one, list_of(one, minItems=1, maxItems=limits.inputs)]},
            model=text("Its name, or align.", 500),
            encoding_format={"enum": ["float", "base64"], "default": "float"},
            dimensions=integer(1, about="Keep so many, and bring the rest to length 1. For models that learnt it."),
            user=text(),
        ),
        "ClassifyRequest": record(["classes", "modality", "data"], "", **classify),
        "ClassifyForm": {**files, "properties": {k: v for k, v in classify.items() if k != "data"}},
    }


def answer_schemas() -> dict[str, Schema]:
    """Return the schemas of answers."""
    file = record(
        ["modality", "row", "member", "type", "url", "shown"],
        "A file of an item. url: as it is stored. shown: in a form that browsers show.",
        modality=text(),
        row=integer(0),
        member=text(),
        type=text(),
        url=text(),
        shown=text(),
    )
    item = record(
        ["object", "id", "key", "captions", "label", "json", "source", "media"],
        "A sample of the index.",
        object={"const": "item"},
        id=integer(0),
        key=text(),
        captions=list_of(text()),
        label={"description": "As in the shard's json."},
        json=FREE,
        source=record([], "", shard=text(), file=text()),
        media=list_of(ref("File")),
    )
    hit = record(
        ["rank", "score", "id", "cosines", "same", "text_rank", "item"],
        "cosines: of each part with the best row, without weight and sign. same: near duplicates, folded into it.",
        rank=integer(1),
        score=number(),
        id=integer(0),
        cosines={"type": "object", "additionalProperties": maybe(number())},
        same=list_of(integer(0)),
        text_rank=maybe(integer(1)),
        item=ref("Item"),
    )
    found = record(
        ["object", "of", "how", "candidates", "hits", "notes", "seconds"],
        "",
        object={"const": "search"},
        of=text(),
        how=text("The rule of the score: cosine, mip, objective, text or hybrid."),
        candidates=integer(0),
        hits=list_of(ref("Hit")),
        notes=list_of(text()),
        seconds=record(["search", "total"], "", search=number(), total=number()),
    )
    embedding = record(
        ["object", "index", "embedding"],
        "base64: little-endian float32.",
        object={"const": "embedding"},
        index=integer(0),
        embedding={"anyOf": [list_of(number()), text()]},
    )
    model = record(
        ["id", "object", "created", "owned_by", "dim", "modalities", "sha256"],
        "",
        id=text(),
        object={"const": "model"},
        created=integer(),
        owned_by=text(),
        dim=integer(1),
        modalities=list_of(text()),
        sha256=text(),
    )
    usage = record(
        ["prompt_tokens", "total_tokens"], "Words of the texts.", prompt_tokens=integer(0), total_tokens=integer(0)
    )
    label = record(["label", "cosine", "probability"], "", label=text(), cosine=number(), probability=maybe(number()))
    facet = record(
        ["key", "kind", "values", "distinct", "low", "high"],
        "values: pairs of a value and its number of items.",
        key=text(),
        kind={"enum": ["text", "number", "flag", "list"]},
        values=list_of(list_of({}, minItems=2, maxItems=2)),
        distinct=integer(0),
        low=maybe(number()),
        high=maybe(number()),
    )
    return {
        "File": file,
        "Item": item,
        "Hit": hit,
        "Search": found,
        "Embedding": embedding,
        "Embeddings": record(
            ["object", "data", "model", "usage"],
            "",
            object={"const": "list"},
            data=list_of(ref("Embedding")),
            model=text(),
            usage=usage,
        ),
        "Classification": record(
            ["object", "label", "how", "classes", "notes", "seconds"],
            "",
            object={"const": "classification"},
            label=text(),
            how=text(),
            classes=list_of(label),
            notes=list_of(text()),
            seconds=number(),
        ),
        "Model": model,
        "Models": record(["object", "data"], "", object={"const": "list"}, data=list_of(ref("Model"))),
        "Facets": record(
            ["object", "counts", "facets"],
            "counts: modality -> items.",
            object={"const": "facets"},
            counts={"type": "object", "additionalProperties": integer(0)},
            facets=list_of(facet),
        ),
        "Face": {
            **FREE,
            "description": "k: image, sound, cloud, text or drawing. d: its data, in base64 where binary.",
        },
        "Health": record(
            ["status", "version", "model", "index", "reloads", "trouble"],
            "",
            status={"const": "ok"},
            version=text(),
            model=text(),
            index=maybe({"type": "object", "additionalProperties": integer(0)}),
            reloads=integer(0),
            trouble=maybe(text()),
        ),
        "Error": record(
            ["error"],
            "The form of OpenAI's API.",
            error=record(
                ["message", "type", "param", "code"], "", message=text(), type=text(), param=maybe(text()), code=text()
            ),
        ),
    }

"""The schemas of requests, with the server's bounds."""

from __future__ import annotations

from align.serve.limits import Limits
from align.serve.schemas import FREE, Schema, integer, list_of, number, record, ref, text

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
        "uncorrected": {
            "type": "boolean",
            "default": False,
            "description": "Leave out the correction for hubs that the index keeps.",
        },
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

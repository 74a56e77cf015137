"""The schemas of answers."""

from __future__ import annotations

from align.serve.schemas import FREE, Schema, integer, list_of, maybe, number, record, ref, text


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
        ["object", "of", "how", "correction", "candidates", "hits", "notes", "seconds"],
        "",
        object={"const": "search"},
        of=text(),
        how=text("The rule of the score: cosine, mip, objective, text or hybrid."),
        correction=text("The correction of the scores for hubs, by its method. Empty: none."),
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
    heat = record(
        ["object", "id", "modality", "row", "text", "grid", "cosines"],
        "cosines: of each place with the phrase, row by row from the top left. grid: height and width.",
        object={"const": "heat"},
        id=integer(0),
        modality=text(),
        row=integer(0),
        text=text(),
        grid=list_of(integer(1), minItems=2, maxItems=2),
        cosines=list_of(list_of(number())),
    )
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
        "Heat": heat,
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
            ["status", "version", "model", "index", "reloads", "trouble", "search"],
            "",
            status={"const": "ok"},
            version=text(),
            model=text(),
            index=maybe({"type": "object", "additionalProperties": integer(0)}),
            reloads=integer(0),
            trouble=maybe(text()),
            search={"enum": ["ok", "unavailable"], "description": "unavailable: the vectors' server does not answer."},
        ),
        "Error": record(
            ["error"],
            "The form of OpenAI's API.",
            error=record(
                ["message", "type", "param", "code"], "", message=text(), type=text(), param=maybe(text()), code=text()
            ),
        ),
    }

"""``POST /v1/search``: a query of several parts, as JSON or as a form with files."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from align.search.item import Found
from align.serve.ask import Ask
from align.serve.data_uri import read_data_uri
from align.serve.fields import Fields
from align.serve.forms import Upload, read_request
from align.serve.items import item_json
from align.serve.limits import Limits
from align.serve.refusal import Refusal, suggest
from align.serve.respond import Json
from align.serve.service import Service

HOW = ("cosine", "mip", "objective")
K = 20


async def search(request: Request) -> Response:
    """Answer a search."""
    service: Service = request.app.state.service
    started = time.perf_counter()
    fields, files = await read_request(request, service.limits)
    asked = await asyncio.to_thread(read_search, fields, files, service)
    found = await service.search(**asked)
    members = await service.members([hit.item for hit in found.hits])
    hits = [
        {
            "rank": hit.rank,
            "score": hit.score,
            "id": hit.sample,
            "cosines": dict(hit.cosines),
            "same": list(hit.same),
            "text_rank": hit.text_rank,
            "item": item_json(hit.sample, hit.item, files),
        }
        for hit, files in zip(found.hits, members, strict=True)
    ]
    return Json(found_json(found, hits, time.perf_counter() - started))


def found_json(found: Found, hits: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return the answer of a search as JSON. seconds: of the whole request."""
    return {
        "object": "search",
        "of": found.of,
        "how": found.how,
        "correction": found.correction,
        "candidates": found.candidates,
        "hits": hits,
        "notes": list(found.notes),
        "seconds": {"search": round(found.seconds, 6), "total": round(seconds, 6)},
    }


def read_search(fields: Fields, files: dict[str, Upload], service: Service) -> dict[str, Any]:
    """Return the arguments of ``Service.search``.

    ``query`` is short for a part of text. A file of a form is a part of the modality that its field is named by,
    unless a part names the field (``"file": FIELD``). Raises Refusal.
    """
    limits = service.limits
    listed = fields.listing("parts", limits.parts) or []
    named: set[str] = set()
    parts = [_read_part(one, i, files, named, limits) for i, one in enumerate(listed)]
    query = fields.text("query", limits.text)
    if query is not None:
        texts = service.loaded.texts
        if not texts:
            raise Refusal(422, "the model has no tower for text", code="unknown_modality", param="query")
        parts.append(Ask(texts[0], text=query))
    for name, file in files.items():
        if name not in named:
            service.loaded.check_modality(name)
            parts.append(Ask(name, data=file.data, name=file.name))
    if len(parts) > limits.parts:
        raise Refusal(413, f"the query has {len(parts)} parts; at most {limits.parts} are read", param="parts")
    have = list(service.loaded.need_index().index.modalities)
    of = fields.text("of", limits.name)
    asked = {
        "parts": parts,
        "of": of,
        "k": fields.integer("k", K, 1, limits.k),
        "where": fields.mapping("where", limits.where),
        "how": fields.choice("how", HOW),
        "threshold": "calibrated" if fields.take("threshold") == "calibrated" else fields.number("threshold"),
        "text": fields.text("text", limits.text),
        "fold": fields.flag("fold"),
        "correct": not fields.flag("uncorrected"),
        "like": fields.integer("like", None, 0, 2**62),
    }
    fields.finish()
    if of is None:
        raise Refusal(422, f"of is missing: the modality to search among, one of {', '.join(have)}", param="of")
    if asked["like"] is not None and (parts or asked["text"]):
        raise Refusal(422, 'like asks alone; an item among others is a part: {"modality": ..., "id": ...}')
    if not parts and asked["text"] is None and asked["like"] is None:
        raise Refusal(422, "nothing to search by: give query, parts, text or like", param="query")
    return asked


def _read_part(given: Any, i: int, files: dict[str, Upload], named: set[str], limits: Limits) -> Ask:
    where = f"parts[{i}]"
    if not isinstance(given, dict):
        raise Refusal(422, f"{where} is an object: a modality, and text, data or id", param=where)
    fields = Fields(given, where)
    modality = fields.text("modality", limits.name)
    weight = fields.number("weight", 1.0, 1e6)
    text = fields.text("text", limits.text)
    name = fields.text("name", limits.name, "") or ""
    id = fields.integer("id", None, 0, 2**62)
    field = fields.text("file", limits.name)
    uri = fields.take("data")
    fields.finish()
    if modality is None:
        raise Refusal(422, f"{where}.modality is missing", param=where)
    if sum(x is not None for x in (text, uri, id, field)) != 1:
        raise Refusal(422, f"{where} has one of text, data, id and file", param=where)
    data = None
    if field is not None:
        if field not in files:
            hint = suggest(field, files) if files else "files come with multipart/form-data"
            raise Refusal(422, f"{where}.file: no file {field[:60]!r}; {hint}", param=where)
        named.add(field)
        data, name = files[field].data, name or files[field].name
    elif uri is not None:
        data, found = read_data_uri(uri, f"{where}.data")
        name = name or found
    return Ask(modality, text, data, name, id, 1.0 if weight is None else weight)

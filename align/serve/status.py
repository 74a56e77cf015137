"""The routes about the server itself: its health, its model, its counts and its index."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import align
from align.serve.fields import parse_json
from align.serve.loaded import Loaded
from align.serve.metrics import Metrics
from align.serve.refusal import Refusal, suggest
from align.serve.respond import Json
from align.serve.service import Service


async def healthz(request: Request) -> Response:
    """Answer 200 while requests are answered. A stopping server answers 503 before this route is reached.

    ``search`` says where the server that holds the index's vectors does not answer: searches are refused meanwhile.
    """
    service: Service = request.app.state.service
    searcher = service.loaded.searcher
    away = await service.find_trouble()
    return Json(
        {
            "status": "ok",
            "version": align.__version__,
            "model": service.loaded.name,
            "index": None if searcher is None else dict(searcher.index.modalities),
            "reloads": service.reloads,
            "trouble": service.trouble or None,
            "search": "unavailable" if away else "ok",
        }
    )


async def metrics(request: Request) -> Response:
    """Answer with all counts, in Prometheus' text form."""
    counts: Metrics = request.app.state.metrics
    return PlainTextResponse(
        counts.write(request.app.state.service), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"}
    )


async def models(request: Request) -> Response:
    """Answer with the one model that is served."""
    return Json({"object": "list", "data": [model_json(request.app.state.service.loaded)]})


async def model(request: Request) -> Response:
    """Answer with a model by its name."""
    loaded: Loaded = request.app.state.service.loaded
    name = request.path_params["name"]
    if name not in (loaded.name, "align"):
        raise Refusal(404, f"no model {name[:60]!r}; {suggest(name, [loaded.name])}", code="model_not_found")
    return Json(model_json(loaded))


async def facets(request: Request) -> Response:
    """Answer with the keys that a filter can name, and their counts among the items that ``where`` lets through."""
    service: Service = request.app.state.service
    text = request.query_params.get("where", "")
    if len(text) > service.limits.where:
        raise Refusal(413, f"where is too long; at most {service.limits.where} characters are read", param="where")
    where = parse_json(text.encode()) if text else None
    if where is not None and not isinstance(where, dict):
        raise Refusal(422, 'where is an object, as in {"label": "dog"}', param="where")
    found = await service.facets(where)
    return Json({"object": "facets", "counts": await service.counts(where), "facets": [f._asdict() for f in found]})


def model_json(loaded: Loaded) -> dict[str, object]:
    """Return a model in OpenAI's form, with its space beside."""
    return {
        "id": loaded.name,
        "object": "model",
        "created": loaded.created,
        "owned_by": "align",
        "dim": loaded.model.dim,
        "modalities": loaded.model.modalities,
        "sha256": loaded.sha256,
    }

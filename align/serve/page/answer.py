"""The answer to the page's query: its files embedded, the hits, the class names, and the filters to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from align.search.item import Found
from align.search.threshold import Threshold
from align.serve.ask import Ask
from align.serve.page.classes import Guess, guess_class
from align.serve.page.filters import Panel, make_panels, make_where
from align.serve.page.query import Asked, Query
from align.serve.page.space import Space
from align.serve.page.trouble import Trouble


async def embed_files(query: Query, space: Space) -> Query:
    """Return the query with each file's embedding in its place."""
    parts = []
    for part in query.parts:
        if part.form == "file":
            fitting = space.fitting(part.name)
            modality = part.modality if part.modality in fitting else next(iter(fitting), "")
            if not modality:
                raise Trouble(f"{part.name} is no file that this model reads; it reads {space.readable()}.", "parts")
            vector = await space.embed(modality, part.value, part.name)
            part = replace(part, form="vector", modality=modality, value=vector.float().numpy())
        parts.append(part)
    return replace(query, parts=tuple(parts))


async def find(query: Query, space: Space) -> Found | None:
    """Return the answer to a query, or None where it asks nothing."""
    if not query.parts:
        return None
    parts = [make_part(part) for part in query.parts]
    lists = await _lists(query, space)
    text = query.words if query.captions and query.words else None
    where = make_where(query.filters, lists)
    if where is not None:
        await check_filters(where, space)
    asking = [part.value for part in query.parts if part.form == "item" and part.modality == query.of]
    return await space.search(parts, query.of, query.k, where=where, text=text, fold=query.fold, without=asking)


async def find_calibrated(query: Query, found: Found, space: Space) -> Threshold | None:
    """Return the threshold that the index keeps for such a query.

    Other weights than 1, and a correction for hubs, give scores of another size.
    """
    modalities = [part.modality for part in query.parts]
    if found.correction or any(part.weight != 1 for part in query.parts) or len(set(modalities)) < len(modalities):
        return None
    return await space.read_threshold(modalities, query.of, found.how)


async def check_filters(where: Mapping[str, Any], space: Space) -> None:
    """Raise Trouble beside the filters where the index cannot read them."""
    try:
        await space.facets(where)
    except Trouble as error:
        raise Trouble(error.sentence, "filters", error.status, error.wait) from None


def make_part(part: Asked) -> Ask:
    """Return a part as the service takes it."""
    import torch

    match part.form:
        case "item":
            return Ask(part.modality, id=part.value, weight=part.weight)
        case "vector":
            return Ask(part.modality, vector=torch.tensor(part.value), weight=part.weight)
        case _:
            return Ask(part.modality, text=part.value, weight=part.weight)


async def guess_classes(query: Query, space: Space) -> list[Guess]:
    """Return the bars of the class names for each part that is no text."""
    if not query.classes:
        return []
    if len(query.classes) < 2:
        raise Trouble("Type two or more class names, with commas between.", "classes")
    return [await guess_class(part, query.classes, space) for part in query.parts if part.form in ("vector", "item")]


async def list_panels(query: Query, space: Space) -> list[Panel]:
    """Return the panels of filters. The counts of a key heed the filters of the other keys."""
    try:
        lists = await _lists(query, space)
        here = {"has": query.of}

        async def ask(but: str) -> dict[str, Any]:
            tree = make_where(query.filters, lists, but=but)
            facets = await space.facets(here if tree is None else {"all": [here, tree]})
            return {facet.key: facet for facet in facets}

        base: Mapping[str, Any] = await ask("")
        chosen = {key: (await ask(key)).get(key) for key in query.filters}
        whole = {facet.key: facet for facet in await space.facets()}
        passing = {key: chosen.get(key) or base.get(key) for key in whole}
        facets = {  # the kind of a panel stays, whatever passes
            key: facet._replace(values=now.values if (now := passing[key]) is not None else [])
            for key, facet in whole.items()
        }
        return make_panels(facets, query.filters, (await space.count()).get(query.of, 0))
    except Trouble:
        return []


async def _lists(query: Query, space: Space) -> set[str]:
    return {facet.key for facet in await space.facets() if facet.kind == "list"} if query.filters else set()

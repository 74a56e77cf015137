"""The page of one item: all its members, its json, and the queries that begin with it."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from align.data.labels import in_words
from align.serve.page.looks import make_look
from align.serve.page.query import Asked, Query
from align.serve.page.reply import reply
from align.serve.page.space import Space
from align.serve.page.trouble import Trouble
from align.serve.page.view import name_item


async def show_item(request: Request, space: Space) -> Response:
    """Return the page of an item, or a page that says that it is not there."""
    number = request.path_params["number"]
    about = {"title": space.title, "model": space.model}
    try:
        item = (await space.items([number]))[0]
        places = sorted(await space.members(item), key=lambda place: (space.order(place.modality), place.row))
        shown = [await make_look(space, number, item, place) for place in places]
        among, towers = list(await space.count()), space.service.loaded.model.modalities
    except Trouble as error:
        values = {"about": about, "trouble": error, "title": f"Item {number}"}
        return reply("search/item.html", values, error.status)
    members: list[tuple[Any, str]] = []
    for look in shown:
        of = look.modality if look.modality in among else ""
        query = Query((Asked("item", look.modality, number),), next((m for m in among if m != of), of))
        members.append((look, query.address() if of and look.modality in towers else ""))
    facts = {"key": item.key, "label": in_words(item.label)} | {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in item.json.items()
        if key != "label"
    }
    values = {"about": about, "trouble": None, "item": item, "title": name_item(item)}
    return reply("search/item.html", values | {"members": members, "facts": {k: v for k, v in facts.items() if v}})

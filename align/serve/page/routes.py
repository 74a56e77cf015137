"""The routes of the search page."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, final

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from align.search.item import Found
from align.serve.page.answer import embed_files, find, find_calibrated, guess_classes, list_panels
from align.serve.page.classes import Guess
from align.serve.page.item import show_item
from align.serve.page.kit import send_kit
from align.serve.page.looks import draw_still, find_look, write_face
from align.serve.page.query import Asked, Query, read_query
from align.serve.page.reply import FOREVER, read_fields, reply
from align.serve.page.space import Space
from align.serve.page.take import take
from align.serve.page.trouble import Trouble
from align.serve.page.view import make_cards, make_chips, say_found, write_score, write_seconds
from align.serve.service import Service

Handler = Callable[[Request], Awaitable[Response]]


@final
class Number(IntegerConvertor):
    """A number of at most 18 digits in a path, as the index has them."""

    regex = "[0-9]{1,18}"


register_url_convertor("number", Number())


def page_routes(service: Service) -> list[Route]:
    """Return the routes of the search page: "/", "/item/N", "/look/N/MODALITY/ROW", "/take" and "/kit/NAME"."""
    space = Space(service)

    async def page(request: Request) -> Response:
        return await show_page(request, space)

    async def item(request: Request) -> Response:
        return await show_item(request, space)

    async def look(request: Request) -> Response:
        return await send_look(request, space)

    async def send_chosen(request: Request) -> Response:
        return await take(request, space)

    return [
        Route("/", page, methods=["GET", "POST"]),
        Route("/item/{number:number}", item),
        Route("/look/{number:number}/{modality}/{row:number}", look),
        Route("/take", send_chosen, methods=["POST"]),
        Route("/kit/{name:path}", send_kit),
    ]


async def show_page(request: Request, space: Space) -> Response:
    """Return the page for a query in the address or in a form.

    With the header ``X-Part: results`` it is the results alone, for the page's script.
    """
    start = time.perf_counter()
    counts: dict[str, int] = {}
    query, found, trouble, guesses = Query(), None, None, []
    try:
        counts = await space.count()
        query = Query(of=next(iter(counts), ""))
        query = read_query(await read_fields(request), space.texts, list(counts))
        query = await embed_files(query, space)
        guesses = await guess_classes(query, space)
        found = await find(query, space)
    except Trouble as error:
        trouble = error
    if request.method == "POST" and not request.headers.get("x-part") and trouble is None and query.in_address:
        return RedirectResponse(query.address(), 303)  # the address of the page then holds the query
    only = request.headers.get("x-part") == "results"
    values = await _values(query, found, trouble, guesses, space)
    values |= {"seconds": write_seconds(time.perf_counter() - start)}
    if not only:
        words, chips = await _chips(query, space)
        values |= {"words": words, "chips": chips, "counts": counts, "examples": []}
        values |= {"about": describe(space)}
        if found is None and not query.parts and counts:
            values["examples"] = await list_examples(space)
    status = trouble.status if trouble is not None else 200
    wait = {"retry-after": str(trouble.wait)} if trouble is not None and trouble.wait is not None else {}
    return reply("search/results.html" if only else "search/page.html", values, status, wait)


async def list_examples(space: Space) -> list[Any]:
    """Return an example of each modality that can be asked with: its query's address, its name and its look."""
    from align.serve.page.view import Small, name_item

    found = []
    counts = list(await space.count())
    for modality, number in (await space.examples()).items():
        item = (await space.items([number]))[0]
        of = next((m for m in counts if m != modality), modality)
        query = Query((Asked("item", modality, number),), of)
        small = Small(number, name_item(item), await find_look(space, number, item, modality))
        if small.look.element == "text":
            query = replace(query, parts=(Asked("words", modality, small.look.lines[0]),))
        found.append((query.address(), small))
    return found


def describe(space: Space) -> dict[str, Any]:
    """Return the words about the index and its model, and the modalities that decide which controls there are."""
    about: dict[str, Any] = {"title": space.title, "model": space.model, "texts": list(space.texts)}
    return about | {"takes": sorted(space.takes), "doubtful": space.doubtful}


async def send_look(request: Request, space: Space) -> Response:
    """Return the drawing of a member, or its face as data."""
    place = (request.path_params["number"], request.path_params["modality"], request.path_params["row"])
    try:
        if request.query_params.get("as") == "data":
            data = await write_face(space, *place)
            return Response("", 404) if data is None else Response(data, media_type="application/json", headers=FOREVER)
        still = await draw_still(space, *place)
    except Trouble as error:
        return Response(error.sentence, error.status, media_type="text/plain")
    return Response("", 404) if still is None else Response(still[0], media_type=still[1], headers=FOREVER)


async def _chips(query: Query, space: Space) -> tuple[Asked | None, list[Any]]:
    """Return the chips of a query. Items that are gone have none."""
    try:
        return await make_chips(query, space)
    except Trouble:
        return await make_chips(replace(query, parts=[part for part in query.parts if part.form != "item"]), space)


async def _values(
    query: Query, found: Found | None, trouble: Trouble | None, guesses: list[Guess], space: Space
) -> dict[str, Any]:
    cards = [] if found is None else await make_cards(found, query, space)
    scores = [card.score for card in cards]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
    step = max((high - low) / 200, 1e-6)
    values: dict[str, Any] = {
        "query": query,
        "found": found,
        "cards": cards,
        "guesses": guesses,
        "trouble": trouble,
        "panels": [],
        "status": say_found(found, query) if found is not None else "",
        "slider": {"low": low - step, "high": high, "step": step, "value": query.threshold},
        "calibrated": None,
        "vectors": [part for part in query.parts if part.form == "vector"],
        "write": write_score,
        "search_seconds": write_seconds(found.seconds) if found is not None else "",
    }
    if cards and found is not None and (calibrated := await find_calibrated(query, found, space)) is not None:
        values["calibrated"] = calibrated
        values["slider"]["high"] = max(high, calibrated.value)
    if found is not None or trouble is not None:
        values["panels"] = await list_panels(query, space)
    return values

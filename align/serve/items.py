"""``GET /v1/items/{id}`` and its files: an item's number is its only address, so no path comes from a visitor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from align.page.faces import face_json
from align.search.item import Item
from align.serve.files import Delivery
from align.serve.kinds import media_type
from align.serve.members import Member
from align.serve.refusal import Refusal, shorten
from align.serve.respond import MEDIA_POLICY, Json
from align.serve.service import Service

SHOWN_CACHE = "private, max-age=60"


async def item(request: Request) -> Response:
    """Answer with an item."""
    service: Service = request.app.state.service
    number = read_number(request)
    found = await service.item(number)
    return Json(item_json(number, found, (await service.members([found]))[0]))


async def media(request: Request) -> Response:
    """Answer with a file of an item, or a part of it (RFC 9110, sections 13 and 14)."""
    service: Service = request.app.state.service
    row = request.query_params.get("row", "0")
    form = request.query_params.get("form", "shown")
    if not re.fullmatch("[0-9]{1,6}", row):
        raise Refusal(422, f"row is a whole number, not {shorten(row)}", param="row")
    if form not in ("shown", "original"):
        raise Refusal(422, f"form is shown or original, not {shorten(form)}", param="form")
    found = await service.media(read_number(request), request.path_params["modality"], int(row), form=form)
    return deliver(found, request)


async def face(request: Request) -> Response:
    """Answer with a file of an item made small for a page, as JSON."""
    service: Service = request.app.state.service
    row = request.query_params.get("row", "0")
    if not re.fullmatch("[0-9]{1,6}", row):
        raise Refusal(422, f"row is a whole number, not {shorten(row)}", param="row")
    found = await service.face(read_number(request), request.path_params["modality"], int(row))
    if found is None:
        raise Refusal(404, "this file has no drawing", code="no_face")
    return Json(face_json(found), headers={"cache-control": SHOWN_CACHE})


def read_number(request: Request) -> int:
    """Return the item's number in a path. Raises Refusal (404) for anything else."""
    text = request.path_params["id"]
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Refusal(404, f"an item's id is a number, not {shorten(text)}", code="no_such_item", param="id")
    return int(text)


def item_json(number: int, item: Item, members: Sequence[Member]) -> dict[str, Any]:
    """Return an item as JSON. It names its shard or file, and not the folder that holds it."""
    shard = item.source.get("shard")
    return {
        "object": "item",
        "id": number,
        "key": item.key,
        "captions": list(item.captions),
        "label": item.label,
        "json": dict(item.json),
        "source": {"shard": PurePath(str(shard)).name} if shard else {"file": PurePath(item.place).name},
        "media": [
            {
                "modality": one.modality,
                "row": one.row,
                "member": one.name,
                "type": media_type(one.suffix),
                "url": media_url(number, one, "original"),
                "shown": media_url(number, one, "shown"),
            }
            for one in members
        ],
    }


def media_url(number: int, member: Member, form: str) -> str:
    """Return the path of a file of an item."""
    return f"/v1/items/{number}/media/{quote(member.modality, safe='')}?row={member.row}&form={form}"


def deliver(found: Delivery, request: Request) -> Response:
    """Return a file as a response: whole, a range of it (206), unchanged (304), or 416."""
    content = found.content
    headers = {
        "etag": content.tag,
        "accept-ranges": "bytes",
        "content-security-policy": MEDIA_POLICY,
        "cache-control": SHOWN_CACHE,
        "content-disposition": f"{'inline' if found.inline else 'attachment'}; filename*=UTF-8''{quote(found.name)}",
        "content-type": found.type,
    }
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if content.tag in known or known == ["*"]:
        return Response(status_code=304, headers={k: v for k, v in headers.items() if k != "content-type"})
    start, stop, status = 0, content.size, 200
    wanted = request.headers.get("range")
    if request.method == "GET" and wanted and request.headers.get("if-range", content.tag) == content.tag:
        found_range = read_range(wanted, content.size)
        if found_range is not None:
            start, stop = found_range
            status = 206
            headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_blocks(content.read(start, stop)), status, headers)


def _blocks(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield from parts


def read_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, stop) of a Range header, or None for one that means the whole: other units, several ranges.

    Raises Refusal (416) for a range outside of the file.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", text.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    if found[1] and found[2] and int(found[2]) < int(found[1]):
        return None
    if start >= size or start >= stop:
        raise Refusal(416, f"the file has {size} bytes")
    return start, stop

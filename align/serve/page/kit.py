"""Files of the page's kit: its scripts and its styles, by name."""

from __future__ import annotations

import hashlib
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from align.page.templates import read_kit

TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
SHARED = ("page.css", "cloud.js")
PAGE = (
    "ask",
    "camera",
    "chips",
    "choose",
    "copy",
    "files",
    "look",
    "main",
    "problems",
    "record",
    "recorder",
    "threshold",
    "where",
)
NAMES = frozenset({*SHARED, "search/search.css", *(f"search/{name}.js" for name in PAGE)})


async def send_kit(request: Request) -> Response:
    """Return a script or a style. Any name that is not in the list is not found."""
    name = request.path_params["name"]
    if name not in NAMES:
        return Response("", 404)
    content, mark = _read(name)
    headers = {"etag": mark, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
    if request.headers.get("if-none-match") == mark:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "content-type": TYPES[name.rpartition(".")[2]]})


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = read_kit(name).encode()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'

"""Responses: JSON that every client can read, and the headers that all responses carry."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from align.page.templates import environment
from align.serve.refusal import Refusal

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
MEDIA_POLICY = f"{API_POLICY}; sandbox"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policies of JSON, of files, and of pages, whose script and style are files of this server."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": API_POLICY,
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "geolocation=(), camera=(self), microphone=(self)",
    "cache-control": "no-store",
}
"""Headers of every response that does not state its own."""


class Json(Response):
    """JSON in UTF-8. Numbers that JSON lacks (NaN, infinity) become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(without_nan(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def without_nan(content: Any) -> Any:
    """Return JSON's values with null for NaN and infinity."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {str(name): without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return content


def refuse(refusal: Refusal, scope: Scope) -> Response:
    """Return the response to a request that is not answered: JSON, or a page for a browser that opens an address."""
    headers = {"retry-after": str(refusal.retry)} if refusal.retry else {}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status in (408, 413):
        headers["connection"] = "close"  # the rest of its body is not read
    if scope["method"] != "GET" or scope["path"].startswith("/v1/") or "text/html" not in _accept(scope):
        return Json(refusal.body(), refusal.status, headers)
    title = {404: "Nothing is here", 429: "The server is busy"}.get(refusal.status, "This cannot be answered")
    message = refusal.message[:1].upper() + refusal.message[1:].removesuffix(".")
    html = environment().get_template("refused.html").render(
        status=refusal.status, asks=refusal.status == 401, title=title, message=message
    )  # fmt: skip
    headers["content-security-policy"] = PAGE_POLICY
    return Response(html.encode("utf-8", "replace"), refusal.status, headers, "text/html; charset=utf-8")


def _accept(scope: Scope) -> str:
    return Headers(scope=scope).get("accept", "")

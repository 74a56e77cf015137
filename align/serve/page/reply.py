"""Requests and replies of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from align.page.templates import environment
from align.serve.forms import parse_multipart
from align.serve.page.query import Fields
from align.serve.page.trouble import Trouble
from align.serve.page.vector import write_vector
from align.serve.refusal import Refusal
from align.serve.respond import PAGE_POLICY

HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "referrer-policy": "same-origin",  # without a referrer a form's Origin would be null, which the guard refuses
    "vary": "x-part",
}
"""Headers of the page, beside those of every response."""
FOREVER = {"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"}
FILES, FIELDS = 16, 400
PART = 64 << 10  # bytes of a field that is no file


def reply(template: str, values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None):
    """Return a template as the response."""
    html = environment().get_template(template).render(**values, vector=write_vector)
    content = html.encode("utf-8", "replace")
    return Response(content, status, {**HEADERS, **(headers or {})}, media_type="text/html; charset=utf-8")


async def read_fields(request: Request) -> Fields:
    """Return the fields of an address or a form in their order. A file is its bytes and its name.

    Raises Trouble for a form that cannot be read.
    """
    if request.method != "POST":
        return [(name, value) for name, value in request.query_params.multi_items() if name != "file"]
    limits = request.app.state.service.limits
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            form = await parse_multipart(request, files=FILES, fields=FIELDS, part=PART, memory=limits.body)
        else:
            form = await request.form(max_fields=FIELDS)
    except Refusal as error:
        raise Trouble(f"{error.message[:1].upper()}{error.message[1:]}.", "parts", error.status) from None
    except HTTPException as error:
        raise Trouble(f"The form cannot be read: {error.detail.rstrip('.')}.", "parts", error.status_code) from None
    try:
        fields: list[tuple[str, Any]] = []
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields.append((name, value))
            elif value.filename:
                fields.append((name, (await value.read(), value.filename[-200:])))
    finally:
        await form.close()
    return [(name, value) for name, value in fields if isinstance(value, str) == (name != "file")]

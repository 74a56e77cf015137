"""The body of a request: JSON, or a form with files."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from align.serve.fields import Fields, parse_json
from align.serve.limits import Limits
from align.serve.refusal import Refusal, shorten

LONG = 1 << 16  # bytes of JSON from which other requests should not wait for its reading
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class Upload(NamedTuple):
    """A file of a form. name: on the visitor's disk, of which the suffix alone is read."""

    data: bytes
    name: str


async def read_request(request: Request, limits: Limits) -> tuple[Fields, dict[str, Upload]]:
    """Return the fields of a JSON body or of a form, and the form's files by field.

    Raises Refusal: 400 for broken JSON or a broken form, 413 for too many fields, 415 for another type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        return await _read_form(request, limits, kind)
    if kind not in ("application/json", ""):
        raise Refusal(415, f"the body is {shorten(kind)}; send application/json or multipart/form-data")
    body = await request.body()
    if body.count(b",") > limits.commas:
        raise Refusal(413, f"the body has more than {limits.commas} commas; send fewer values at a time")
    found = parse_json(body) if len(body) < LONG else await asyncio.to_thread(parse_json, body)
    if not isinstance(found, dict):
        raise Refusal(400, 'the body is a JSON object, as in {"query": "a red cone", "of": "image"}')
    return Fields(found), {}


async def _read_form(request: Request, limits: Limits, kind: str) -> tuple[Fields, dict[str, Upload]]:
    if kind != FORMS[0]:
        try:
            pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=limits.fields)
        except ValueError as error:
            many = "fields" in str(error)
            raise Refusal(413 if many else 400, f"the form cannot be read: {error}") from None
        return Fields(dict(pairs), form=True), {}
    plain: dict[str, Any] = {}
    files: dict[str, Upload] = {}
    most = max(limits.where, 1 << 16)
    form = await parse_multipart(request, files=limits.parts, fields=limits.fields, part=most, memory=limits.body)
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                plain[name] = value
            elif name in files:
                raise Refusal(422, f"two files are named {shorten(name)}; give each its own name", param=name[:60])
            elif value.filename or value.size:  # a browser sends an empty file for an input without one
                files[name] = Upload(await value.read(), value.filename or "")
    finally:
        await form.close()
    return Fields(plain, form=True), files


async def parse_multipart(request: Request, *, files: int, fields: int, part: int, memory: int) -> FormData:
    """Return a form with files, which the caller closes.

    Args:
        files, fields: the most of them. part: bytes of a field. memory: bytes of a file, which never reaches the disk.

    Raises Refusal: 400 for a form that cannot be read, 413 for a large one.
    """
    parser = MultiPartParser(request.headers, request.stream(), max_files=files, max_fields=fields, max_part_size=part)
    parser.spool_max_size = memory + 1
    try:
        return await parser.parse()
    except MultiPartException as error:
        many = error.message.startswith("Too many") or "exceeded" in error.message
        raise Refusal(413 if many else 400, f"the form cannot be read: {error.message.rstrip('.')}") from None
    except Exception as error:  # of a part's name or character set
        raise Refusal(400, f"the form cannot be read ({type(error).__name__})") from None

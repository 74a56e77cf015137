"""The chosen samples to take away: as a table, or as a shard."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
import tempfile
from collections.abc import AsyncIterator
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from align.data.labels import in_words
from align.serve.page.query import MOST
from align.serve.page.reply import HEADERS, read_fields
from align.serve.page.space import Space
from align.serve.page.trouble import Trouble

PIECE = 1 << 20
FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the last are full-width forms of the first
IN_MEMORY = 64 << 20  # bytes of a shard before it lies on the disk


async def take(request: Request, space: Space) -> Response:
    """Return the chosen hits as CSV or as a shard in WebDataset's form. With none chosen it returns all shown ones."""
    try:
        fields = await read_fields(request)
        rows = [value for name, value in fields if name == "chosen"] or [v for n, v in fields if n == "shown"]
        hits = [(int(n), float(s or "nan")) for n, _, s in (str(row).partition(":") for row in rows[:MOST])]
        if not hits:
            raise Trouble("No samples are chosen.")
        if dict(fields).get("form") == "csv":
            return await _table(hits, space)
        return await _shard(hits, space)
    except ValueError:
        return Response("The choice cannot be read.", 422, media_type="text/plain")
    except Trouble as error:
        return Response(error.sentence, error.status, media_type="text/plain")


async def _table(hits: list[tuple[int, float]], space: Space) -> Response:
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow(["rank", "score", "item", "key", "caption", "label", "json"])
    for rank, ((number, score), item) in enumerate(zip(hits, await space.items([n for n, _ in hits]), strict=True), 1):
        about = json.dumps(dict(item.json), ensure_ascii=False) if item.json else ""
        label = in_words(item.label)
        row = [rank, float(f"{score:.6g}"), number, item.key, next(iter(item.captions), ""), label, about]
        table.writerow([_plain(cell) for cell in row])
    return Response(
        out.getvalue().encode("utf-8-sig", "replace"), headers=_name_file("found.csv"), media_type="text/csv"
    )


def _plain(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return "'" + cell if isinstance(cell, str) and cell[:1] in FORMULAS and cell else cell


async def _shard(hits: list[tuple[int, float]], space: Space) -> Response:
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed by `pieces`, or here)
    try:
        await _fill(file, hits, space)
    except BaseException:
        file.close()
        raise
    size = file.tell()
    file.seek(0)

    async def pieces() -> AsyncIterator[bytes]:
        with file:
            while piece := file.read(PIECE):
                yield piece

    headers = {**_name_file("found-000000.tar"), "content-length": str(size)}
    return StreamingResponse(pieces(), headers=headers, media_type="application/x-tar")


async def _fill(file: IO[bytes], hits: list[tuple[int, float]], space: Space) -> None:
    """Write the samples to a shard. Raises Trouble for one whose files are gone."""
    items = await space.items([number for number, _ in hits])
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for place, ((number, _), item) in enumerate(zip(hits, items, strict=True)):
            key = f"{place:06d}-{_name_sample(item.key)}"
            about = {**item.json, "source": {"key": item.key, "item": number}}
            members = {
                f"{modality}.{row}.{suffix}": await space.content(number, modality, row)
                for modality, row, suffix in await space.members(item)
            }
            for name, content in {
                **members,
                "json": json.dumps(about, ensure_ascii=False).encode("utf-8", "replace"),
            }.items():
                entry = tarfile.TarInfo(f"{key}.{name}")
                entry.size = len(content)
                await run_in_threadpool(tar.addfile, entry, io.BytesIO(content))


def _name_sample(key: str) -> str:
    """Return a key as a name without folders and dots, which would end it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", key).strip("_")[-60:]


def _name_file(name: str) -> dict[str, str]:
    return {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}

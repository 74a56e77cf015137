"""``GET /v1/items/{id}/heat/{modality}?text=…``: the places of an item's file that a phrase is about."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

import torch
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from align.page.overlay import draw_heat
from align.scoring.maps import heat
from align.serve.items import SHOWN_CACHE, read_number
from align.serve.refusal import Refusal, shorten
from align.serve.respond import MEDIA_POLICY, Json
from align.serve.service import Service


class Heat(NamedTuple):
    """A phrase's map of a file. cosines: (H, W) of the places. row: the file as the tower reads it."""

    cosines: Tensor
    row: Tensor


async def send_heat(request: Request) -> Response:
    """Answer with the cosine of each place with a phrase, as JSON, or as a PNG over the picture (``form=png``)."""
    service: Service = request.app.state.service
    asked = request.query_params
    row, text, form = asked.get("row", "0"), asked.get("text", ""), asked.get("form", "json")
    if not re.fullmatch("[0-9]{1,6}", row):
        raise Refusal(422, f"row is a whole number, not {shorten(row)}", param="row")
    if form not in ("json", "png"):
        raise Refusal(422, f"form is json or png, not {shorten(form)}", param="form")
    if not text.strip():
        raise Refusal(422, "text is missing: the phrase to look for", param="text")
    number, modality = read_number(request), request.path_params["modality"]
    found = await find_heat(service, number, modality, int(row), text)
    if form == "png":
        headers = {"cache-control": SHOWN_CACHE, "content-security-policy": MEDIA_POLICY}
        png = await service.loaded.run(lambda: draw_heat(_picture(found), found.cosines))
        return Response(png, media_type="image/png", headers=headers)
    answer = {"object": "heat", "id": number, "modality": modality, "row": int(row), "text": text}
    return Json(answer | {"grid": list(found.cosines.shape), "cosines": found.cosines.tolist()})


async def find_heat(service: Service, number: int, modality: str, row: int, text: str) -> Heat:
    """Return a phrase's map of a file of an item.

    Raises Refusal (422) for a modality whose tower has no grid of places, and for a model without a text tower.
    """
    with service.using() as loaded:
        loaded.check_modality(modality)
        if not loaded.texts:
            raise Refusal(422, "the model has no tower for text", code="unknown_modality", param="text")
        if not await loaded.has_grid(modality):
            says = f"the tower of {modality!r} gives no grid of places, so it has no heat map"
            raise Refusal(422, says, code="no_heat", param="modality")
    vector = (await service.embed(loaded.texts[0], [text]))[0]
    given = await service.row(number, modality, row)
    with service.using() as loaded:
        dense = await loaded.run(
            lambda: loaded.model.dense_values(modality, loaded.model.preprocess[modality].collate([given])).cpu()
        )
    if dense.ndim != 4 or vector.shape != dense.shape[-1:]:  # another model has taken the place of the first
        raise Refusal(503, "the model was replaced meanwhile; ask again", retry=1)
    return Heat(heat(dense, vector[None])[0, 0], given)


def heat_url(number: int, modality: str, text: str) -> str:
    """Return the path of a phrase's map over a picture of an item."""
    return f"v1/items/{number}/heat/{quote(modality, safe='')}?text={quote(text, safe='')}&form=png"


def _picture(found: Heat) -> Tensor:
    """Return the row where it is a picture, else black, as for a spectrogram."""
    row = found.row
    if row.ndim == 3 and len(row) in (1, 3, 4) and row.dtype == torch.uint8:
        return row[:3] if len(row) == 4 else row
    return torch.zeros(1, *(8 * side for side in found.cosines.shape), dtype=torch.uint8)

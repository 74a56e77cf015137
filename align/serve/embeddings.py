"""``POST /v1/embeddings`` in the form of OpenAI's API, so that its clients work unchanged."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import torch.nn.functional as F
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from align.serve.data_uri import read_data_uri
from align.serve.forms import read_request
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.refusal import Refusal, suggest
from align.serve.respond import Json
from align.serve.service import Service

Input = tuple[str, str | tuple[bytes, str]]  # modality, and a text or (bytes, name)


async def embeddings(request: Request) -> Response:
    """Answer with the embedding of each input, in the order of the inputs."""
    service: Service = request.app.state.service
    fields, _ = await read_request(request, service.limits)
    loaded = service.loaded
    model = fields.text("model", 500)
    inputs = await asyncio.to_thread(read_inputs, fields.take("input"), loaded, service.limits)
    form = fields.choice("encoding_format", ("float", "base64"), "float")
    dimensions = fields.integer("dimensions", None, 1, loaded.model.dim)
    fields.take("user")
    fields.finish()
    if model not in (None, loaded.name, "align"):
        hint = suggest(model or "", [loaded.name])
        raise Refusal(404, f"no model {(model or '')[:60]!r}; {hint}", code="model_not_found", param="model")
    rows: list[Tensor | None] = [None] * len(inputs)
    for m in dict.fromkeys(modality for modality, _ in inputs):
        places = [i for i, (modality, _) in enumerate(inputs) if modality == m]
        for i, row in zip(places, await service.embed(m, [inputs[i][1] for i in places]), strict=True):
            rows[i] = row
    data = [
        {"object": "embedding", "index": i, "embedding": write_row(cut(row, dimensions), form == "base64")}
        for i, row in enumerate(rows)
        if row is not None
    ]
    tokens = sum(len(given.split()) for _, given in inputs if isinstance(given, str))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Json({"object": "list", "data": data, "model": loaded.name, "usage": usage})


def read_inputs(given: Any, loaded: Loaded, limits: Limits) -> list[Input]:
    """Return the inputs: a text, an object of one modality and its data URI, or a list of these. Raises Refusal."""
    listed = given if isinstance(given, list) else [given]
    if given is None or not listed:
        raise Refusal(400, 'input is missing: a text, {"image": "data:..."}, or a list of these', param="input")
    if len(listed) > limits.inputs:
        raise Refusal(413, f"input has {len(listed)} entries; at most {limits.inputs} are read", param="input")
    return [_read_input(one, f"input[{i}]" if given is listed else "input", loaded) for i, one in enumerate(listed)]


def _read_input(given: Any, where: str, loaded: Loaded) -> Input:
    if isinstance(given, str):
        if not loaded.texts:
            raise Refusal(400, f"{where} is a text, and the model has {', '.join(loaded.model.modalities)}")
        return loaded.texts[0], given
    if isinstance(given, int | list):
        raise Refusal(400, f"{where} holds tokens; this model has its own: send the text", code="tokens", param="input")
    if not isinstance(given, dict) or len(given) != 1:
        raise Refusal(400, f'{where} is a text, or an object of one modality: {{"image": "data:..."}}', param="input")
    modality, value = next(iter(given.items()))
    loaded.check_modality(modality)
    if modality in loaded.texts:
        if not isinstance(value, str):
            raise Refusal(400, f"{where}.{modality} is a text", param="input")
        return modality, value
    return modality, read_data_uri(value, f"{where}.{modality}")


def cut(row: Tensor, dimensions: int | None) -> Tensor:
    """Return the first dimensions of an embedding, of length 1 again, as OpenAI's API does.

    It means something for a model that was trained so (Kusupati et al. 2022, arXiv:2205.13147).
    """
    return row if dimensions in (None, len(row)) else F.normalize(row[:dimensions], dim=0)


def write_row(row: Tensor, packed: bool) -> str | list[float]:
    """Return an embedding as numbers, or as base64 of little-endian float32."""
    if packed:
        return b64encode(row.float().numpy().astype("<f4").tobytes()).decode()
    return row.float().tolist()

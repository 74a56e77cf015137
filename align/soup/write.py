"""The model folder of a soup, written tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import align
from align.files import sha256, write_json
from align.soup.averages import each_average
from align.soup.facts import merge_heads, merge_parts, merge_terms
from align.soup.ingredients import Ingredient


def write_soup(ingredients: Sequence[Ingredient], weights: Sequence[float], work: Path, how: str) -> list[str]:
    """Write the files of a model folder into an existing folder, and return lines about what was not averaged.

    The layout of model.safetensors, to the byte, is that of the first model, so memory holds one tensor of each model.
    model.json names the models, with the SHA-256 of their weights, their shares, and ``how`` these were chosen.

    Raises ValueError as ``each_average`` and ``merge_heads`` do.
    """
    first = ingredients[0]
    heads = merge_heads(ingredients)
    changed = _write_tensors(ingredients, weights, work / "model.safetensors")
    terms, lines = merge_terms(ingredients, weights)
    assets = first.about.get("assets", {})
    for name in ("config.yaml", *assets):
        shutil.copyfile(first.folder / name, work / name)
    parts = merge_parts(ingredients, changed)
    members = [
        {"model": one.name, "sha256": one.about.get("sha256") or sha256(one.weights), "weight": weight}
        for one, weight in zip(ingredients, weights, strict=True)
    ]
    write_json(
        work / "model.json",
        {
            "schema": first.about["schema"],
            "align": align.__version__,
            "sha256": sha256(work / "model.safetensors"),
            "terms": terms,
            **({"assets": dict(assets)} if assets else {}),
            **({"parts": parts} if parts else {}),
            **({"heads": heads} if heads else {}),
            "soup": {"how": how, "of": members},
        },
    )
    return lines


def _write_tensors(ingredients: Sequence[Ingredient], weights: Sequence[float], path: Path) -> list[str]:
    """Write the averages in the first file's layout. Return the names of the weights that differ between the models."""
    with ingredients[0].weights.open("rb") as file:
        length = file.read(8)
        head = file.read(int.from_bytes(length, "little"))
    facts: Mapping[str, Any] = {k: about for k, about in json.loads(head).items() if k != "__metadata__"}
    names = sorted(facts, key=lambda name: facts[name]["data_offsets"])
    changed = []
    with path.open("wb") as file:
        file.write(length + head)
        for name, x, same in each_average(ingredients, weights, names):
            file.write(x.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            if not same:
                changed.append(name)
    return changed

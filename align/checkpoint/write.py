"""A model folder: ``model.safetensors``, ``config.yaml`` and ``model.json``, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

import align
from align.checkpoint.assets import write_assets
from align.checkpoint.describe import describe
from align.checkpoint.fingerprint import is_cast
from align.distributed import exchange, rank
from align.encoders.weights import write_tensors
from align.files import atomic_folder, sha256, write_json
from align.model import JointModel
from align.model.inside import is_sharded, model_inside, unwrap, weights

schema = 1
FILES = ("model.safetensors", "config.yaml", "model.json")


def list_files(folder: Path) -> list[str]:
    """Return the names of the files of a model folder, those that its preprocesses need included."""
    return [*FILES, *read_object(folder / "model.json").get("assets", {})]


def transcript(model: JointModel) -> dict[str, Any]:
    """Return the constructor call of a model as plain data, as it stands under ``model`` in a training config."""
    towers = {
        name: {
            "preprocess": describe(tower.preprocess),
            "encoder": None if name in (model.share or {}) else describe(tower.encoder),
            "head": describe(tower.head, skip=("width", "dim")),
        }
        for name, tower in ((m, unwrap(model.towers[m])) for m in model.modalities)
    }
    tied = {"tied": dict(model.tied)} if model.tied else {}
    return {"dim": model.dim, "normalize": model.normalize, "share": dict(model.share or {}), **tied, "towers": towers}


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a model folder, whole or not at all.

    model: a JointModel, or a module that holds one: compiled, parallel, set up by Fabric, a LightningModule. The model
    inside is written, under the names that ``load`` knows. Where FSDP2 has sharded it, every rank calls ``save`` and
    the first one writes.

    Raises TypeError where there is no JointModel, ValueError where a part cannot be described, and where the folder
    holds something and no model: it would be lost.
    """
    inside = model_inside(model)
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise ValueError(f"{folder} is no model folder, and what is in it would be lost; name a new folder")
    if not is_sharded(inside):
        with atomic_folder(folder) as work:
            write_model(inside, work)
        return folder
    tensors = weights(inside, gather=True)
    if rank() == 0:
        with atomic_folder(folder) as work:
            write_model(inside, work, tensors)
    exchange(b"")  # no rank goes on before the folder is there
    return folder


def write_model(model: JointModel, work: Path, tensors: dict[str, Tensor] | None = None) -> None:
    """Write the three files of a model folder into an existing folder. tensors: other weights than the model's."""
    config = {"schema": schema, "model": transcript(model)}
    assets = write_assets(model, config["model"], work)
    tensors = weights(model) if tensors is None else tensors
    write_tensors({k: v.cpu().contiguous().clone() for k, v in tensors.items()}, work / "model.safetensors")
    (work / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    write_json(
        work / "model.json",
        {
            "schema": schema,
            "align": align.__version__,
            "sha256": sha256(work / "model.safetensors"),
            "terms": [term.to_json() for term in model.terms],
            **({"assets": assets} if assets else {}),
            **({"parts": parts} if (parts := _state_parts(model, tensors)) else {}),
            **({"heads": heads} if (heads := read_heads(model)) else {}),
            **({"compatible_with": earlier} if (earlier := _state_compatible(model)) else {}),
        },
    )


def read_parts(model: JointModel, tensors: Mapping[str, Tensor] | None = None) -> dict[str, dict[str, Any]]:
    """Return ``image.encoder`` -> {source, sha256, licence, changed} for the parts that began from published weights.

    tensors: the model's weights by name, where they are others than those in place.
    """
    tensors = weights(model) if tensors is None else tensors
    parts = {}
    for name in model.modalities:
        if name in (model.share or {}):
            continue
        prefix = f"towers.{name}.encoder."
        inside = {key[len(prefix) :]: x for key, x in tensors.items() if key.startswith(prefix)}
        tower = unwrap(model.towers[name])
        if (origin := tower.read_origin(inside)) is not None:
            parts[f"{name}.encoder"] = origin._asdict()
        elif tower.fitted_on is not None and (stated := tower.fitted_on.column.get("origin")):
            parts[f"{name}.encoder"] = dict(stated)  # of the encoder that made the cached features
    return parts


def _state_parts(model: JointModel, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Return ``read_parts`` for a file. A cast to another precision is a change: the file has other weights."""
    changed = {"changed": True} if is_cast(model) else {}
    return {part: {**origin, **changed} for part, origin in read_parts(model, tensors).items()}


def read_heads(model: JointModel) -> dict[str, dict[str, Any]]:
    """Return modality -> the origin of the cached features that its head was fitted on, for heads that were."""
    found = {m: unwrap(model.towers[m]).fitted_on for m in model.modalities}
    return {m: origin._asdict() for m, origin in found.items() if origin is not None}


def _state_compatible(model: JointModel) -> list[dict[str, Any]]:
    """Return the earlier models that a model is declared compatible with, see ``align.checkpoint.compatible``."""
    return [{"sha256": checksum, "dims": dims} for checksum, dims in model.compatible_with.items()]


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value

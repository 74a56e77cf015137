"""A model folder: ``model.safetensors``, ``config.yaml`` and ``model.json``, in and out. Nothing in it can run code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import align
from align.checkpoint.assets import find_assets, write_assets
from align.checkpoint.cast import place
from align.checkpoint.describe import build, describe
from align.checkpoint.fingerprint import is_cast, remember
from align.checkpoint.run import describe_others
from align.checkpoint.source import locate
from align.checkpoint.sums import SUMS, find_damage
from align.distributed import exchange, rank
from align.encoders.weight_values import check_finite
from align.encoders.weights import read_tensors, write_tensors
from align.files import atomic_folder, sha256, write_json
from align.files.confined import confine
from align.model import JointModel, Tower
from align.model.inside import is_sharded, model_inside, unwrap, weights
from align.model.naming import naming
from align.model.place import find_device, find_dtype
from align.values import FeatureOrigin, Origin, TermInfo

schema = 1
FILES = ("model.safetensors", "config.yaml", "model.json")


def list_files(folder: Path) -> list[str]:
    """Return the names of the files of a model folder, those that its preprocesses need included."""
    return [*FILES, *_json(folder / "model.json").get("assets", {})]


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
    return {"dim": model.dim, "normalize": model.normalize, "share": dict(model.share or {}), "towers": towers}


def save(model: nn.Module, folder: str | Path) -> Path:
    """Write a model folder, whole or not at all.

    model: a JointModel, or a module that holds one: compiled, parallel, set up by Fabric, a LightningModule. The model
    inside is written, under the names that ``load`` knows. Where FSDP2 has sharded it, every rank calls ``save`` and
    the first one writes.

    Raises TypeError where there is no JointModel, ValueError where a part cannot be described.
    """
    inside = model_inside(model)
    if not is_sharded(inside):
        with atomic_folder(folder) as work:
            write_model(inside, work)
        return Path(folder)
    tensors = weights(inside, gather=True)
    if rank() == 0:
        with atomic_folder(folder) as work:
            write_model(inside, work, tensors)
    exchange(b"")  # no rank goes on before the folder is there
    return Path(folder)


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
            "terms": [term._asdict() for term in model.terms],
            **({"assets": assets} if assets else {}),
            **({"parts": parts} if (parts := _state_parts(model, tensors)) else {}),
            **({"heads": heads} if (heads := read_heads(model)) else {}),
        },
    )


def load(
    folder: str | Path,
    *,
    allow: Sequence[str] = (),
    checkpoint: str = "best",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> JointModel:
    """Return a model in evaluation mode, ready for ``model.embed(image=[...], text=[...])``.

    Args:
        folder: a model folder, a run folder, or ``owner/name`` on the Hugging Face hub.
        allow: packages beside ``align`` whose classes the model's config may name.
        checkpoint: of a run: "best" (where there is validation, else the last), "last", or a step's number.
        device: where the model runs: "cpu", "cuda", "cuda:1" or "mps". None: the CPU.
        dtype: precision of the weights and activations: "float32", "bfloat16" or "float16". None: float32.
            Preprocessing and the normalisation of the embeddings stay in float32, and ``embed`` gives float32.

    Raises FileNotFoundError where there is no such folder, ValueError where it is not a model folder, is damaged, has a
    newer schema, holds NaN, or names a class that is not allowed, a file outside of it or a model on the hub. Raises
    ValueError, before a file is read, for a device that this machine has not, and for another precision.
    """
    from safetensors import SafetensorError

    device, dtype = None if device is None else find_device(device), None if dtype is None else find_dtype(dtype)
    path = locate(folder, checkpoint)
    summed = (path / SUMS).is_file()
    if summed and (line := find_damage(path, training=False)):
        raise ValueError(f"{line}; {describe_others(path)}")
    about = _json(path / "model.json")
    if about.get("schema", 0) > schema:
        raise ValueError(
            f"{path} has schema {about['schema']}; this align {align.__version__} reads up to {schema}: upgrade align"
        )
    try:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))["model"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path / 'config.yaml'} is no model config: {' '.join(str(error).split())}") from error
    try:
        with confine(path):
            model = build_model(config, allow=allow, folder=path, sums=about.get("assets", {}))
    except (TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{path / 'config.yaml'} describes no model ({reason})") from error
    weights_file = path / "model.safetensors"
    if not summed and about.get("sha256") not in (None, sha256(weights_file)):
        raise ValueError(
            f"{weights_file} is damaged: its SHA-256 is not the one in model.json; {describe_others(path)}"
        )
    try:
        state = read_tensors(weights_file)
    except SafetensorError as error:
        raise ValueError(f"{weights_file} is damaged: {error}") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{weights_file} does not fit its config.yaml: {' '.join(str(error).split())[:300]}"
        ) from error
    check_finite(model, str(weights_file))
    if "sha256" in about and all(x.dtype == state[name].dtype for name, x in weights(model).items()):
        remember(model, about["sha256"])  # weights of another dtype were cast: saved again, they are another file
    place(model, device, dtype)
    for part, origin in about.get("parts", {}).items():
        model.towers[part.removesuffix(".encoder")].mark_origin(Origin(**origin))  # pyright: ignore[reportCallIssue]
    for m, origin in about.get("heads", {}).items():
        model.towers[m].fitted_on = FeatureOrigin(**origin)
    model.terms = [TermInfo(**{**term, "modalities": tuple(term["modalities"])}) for term in about.get("terms", [])]
    return model.eval()


def load_tower(folder: str | Path, modality: str, *, allow: Sequence[str] = ()) -> Tower:
    """Return one trained tower of a model, with its head. Raises ValueError where the model has no such modality."""
    model = load(folder, allow=allow)
    if modality not in model.modalities:
        raise ValueError(f"{folder} has no tower {modality!r}; it has {', '.join(model.modalities)}")
    tower = unwrap(model.towers[modality])
    tower.loaded_from = str(folder)
    return tower


def build_model(
    config: dict[str, Any],
    *,
    allow: Sequence[str] = (),
    folder: Path | None = None,
    sums: Mapping[str, str] | None = None,
) -> JointModel:
    """Return a model from its transcript, with random weights. Raises ValueError where `build` or the model does.

    folder, sums: of the files that its preprocesses need, and their SHA-256.
    """
    towers = {}
    for name, parts in config["towers"].items():
        with naming(f"tower {name!r}"):
            described = find_assets(parts["preprocess"], folder, sums or {})
        preprocess = build(described, allow=allow)
        encoder = None if parts.get("encoder") is None else build(parts["encoder"], allow=allow)
        towers[name] = Tower(preprocess, encoder, build(parts["head"], allow=allow, delayed=True))
    with torch.device("cpu"):
        return JointModel(
            towers, config["dim"], share=config.get("share") or None, normalize=config.get("normalize", True)
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


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value

"""A model folder, read: nothing in it can run code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import align
from align.checkpoint.assets import find_assets
from align.checkpoint.cast import place
from align.checkpoint.compatible import read_compatible
from align.checkpoint.describe import build
from align.checkpoint.fingerprint import remember
from align.checkpoint.run import describe_others
from align.checkpoint.source import locate
from align.checkpoint.sums import SUMS, find_damage
from align.checkpoint.write import read_object, schema
from align.encoders.weight_values import check_finite
from align.encoders.weights import read_tensors
from align.files import sha256
from align.files.confined import confine
from align.model import JointModel, Tower
from align.model.inside import unwrap, weights
from align.model.naming import naming
from align.model.place import find_device, find_dtype
from align.values import FeatureOrigin, Origin, TermInfo


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
    about = read_object(path / "model.json")
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
    model.compatible_with = read_compatible(path, about, model.dim)
    model.terms = [TermInfo.from_json(term) for term in about.get("terms", [])]
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
            towers,
            config["dim"],
            share=config.get("share") or None,
            normalize=config.get("normalize", True),
            tied=config.get("tied") or None,
        )

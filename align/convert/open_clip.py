"""A model with open_clip's towers as a folder of open_clip: open_clip_config.json and safetensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from align.convert.open_clip_config import find_config, find_notes, save_tokenizer
from align.encoders import OpenClipImage, OpenClipText
from align.encoders.weights import listing, write_tensors
from align.files import write_json
from align.files.fresh import fresh_folder
from align.heads import Identity, Linear
from align.model import JointModel
from align.model.inside import unwrap
from align.published.joined import keep_towers

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
START = 1 / 0.07  # the scale that open_clip begins with


def write_open_clip(model: JointModel, folder: str | Path, *, towers: Sequence[str] | None = None) -> list[str]:
    """Write a model as a folder of open_clip, whole or not at all. Return lines about it.

    ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` loads it, and its features are the model's embeddings
    before they are made unit vectors. A head that is one matrix goes into the tower's projection.

    towers: the modalities to write, an image tower and a text tower of open_clip. None: the model's.

    Raises ValueError where the model has other towers, heads or preprocessing than open_clip can hold.
    """
    model = model if towers is None else keep_towers(model, list(towers))
    image, text = _find(model, OpenClipImage), _find(model, OpenClipText)
    others = [m for m in model.modalities if m not in (image, text)]
    if image is None or text is None or others:
        kinds = ", ".join(f"{m}: {type(unwrap(model.towers[m]).encoder).__name__}" for m in model.modalities)
        raise ValueError(
            f"open_clip holds an image tower and a text tower of its own (OpenClipImage, OpenClipText), not {kinds}; "
            "name such towers in --towers, or export --to sentence-transformers"
        )
    config = find_config(model, image, text)
    terms = [term for term in model.terms if {*term.modalities} == {image, text} and term.kind == "pairwise"]
    scale, bias = (terms[0].scale, terms[0].bias) if terms else (START, 0.0)
    state = {"logit_scale": torch.tensor(math.log(scale))}
    if bias:
        state["logit_bias"] = torch.tensor(float(bias))
        config["model_cfg"]["init_logit_bias"] = float(bias)
    state |= _read_part(model, image, "visual") | _read_part(model, text, "text")
    if not config["model_cfg"]["text_cfg"].get("hf_model_name"):  # whose architecture stands on the hub
        _check(config["model_cfg"], state)
    with fresh_folder(folder) as work:
        write_json(work / CONFIG, config)
        write_tensors({name: x.detach().cpu().contiguous().clone() for name, x in state.items()}, work / WEIGHTS)
        save_tokenizer(model, text, work)
    lines = [f"wrote {folder}: open_clip.create_model_and_transforms('local-dir:{folder}')"]
    if not terms:
        lines.append(f"no trained term is between {image} and {text}: logit_scale is open_clip's start, {START:.2f}")
    return lines + find_notes(model, image)


def _find(model: JointModel, kind: type[nn.Module]) -> str | None:
    return next((m for m in model.modalities if type(unwrap(model.towers[m]).encoder) is kind), None)


def _read_part(model: JointModel, modality: str, part: str) -> dict[str, Tensor]:
    """Return the tensors of a tower under open_clip's names, with the head in the projection."""
    tower = unwrap(model.towers[modality])
    module = tower.encoder.visual if part == "visual" else tower.encoder.text
    state = {f"{part}.{name}": x.detach() for name, x in module.state_dict().items()}
    if isinstance(tower.head, Identity):
        return state
    found = [name for name in ("proj", "text_projection") if isinstance(getattr(module, name, None), nn.Parameter)]
    if not isinstance(tower.head, Linear) or tower.head.bias or not found:
        raise ValueError(
            f"the head of {modality} is {type(tower.head).__name__}, which open_clip's tower has no place for; "
            "it takes Identity, and Linear without a bias where its projection is a matrix"
        )
    name = f"{part}.{found[0]}"
    return state | {name: state[name] @ tower.head.project.weight.detach().T}  # (W, P) (P, D) = (W, D)


def _check(config: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Raise ValueError where open_clip's model of a configuration has other tensors."""
    from open_clip.model import CustomTextCLIP

    given = {name: x for name, x in config.items() if name != "custom_text"}
    with torch.device("meta"):
        made = CustomTextCLIP(**given).state_dict()
    missing, unknown = sorted(set(made) - set(state)), sorted(set(state) - set(made))
    shapes = [name for name in made if name in state and made[name].shape != state[name].shape]
    for word, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            raise ValueError(
                f"open_clip's model of this configuration has {len(names)} tensors {word}: {listing(names)}"
            )

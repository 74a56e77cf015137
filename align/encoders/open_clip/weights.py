"""Names of an open_clip model's weights, in each layout that open_clip itself reads, for one tower at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from align.encoders import weight_values
from align.encoders.weights import pick_weights, read_keys

BESIDE = ("text_projection", "positional_embedding", "token_embedding.", "transformer.", "ln_final.")
"""Beginnings of the text tower's names where it stands beside ``visual.``, as in CLIP's own layout."""
Shapes = Callable[[], dict[str, nn.Module]]
SCALE, BIAS = "logit_scale", "logit_bias"
APPLE = {  # Apple's own layout of MobileCLIP: a name that it has -> whether the image tower is a FastViT
    "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight": True,
    "image_encoder.model.patch_emb.0.block.conv.weight": False,
}
MASK = "attn_mask"  # a constant that archives hold, of a block or of the model
OTHERS = (SCALE, BIAS, "text_decoder.", "input_resolution", "context_length", "vocab_size")
"""Names that belong to neither tower: CoCa's captioner and the numbers of OpenAI's archives among them."""


def read_part(part: str, module: nn.Module, path: Path, shapes: Shapes) -> dict[str, Tensor] | None:
    """Return the tensors of one tower of a file under the names that the tower has for them.

    None where the library's converter has put them into the tower already (big_vision's .npz).

    part: "visual" or "text". module: the tower. Tables of positions are resized to its grid or context.
    shapes: makes both towers without memory, for the converters, which take a whole model.

    Raises ValueError in one line for a file that holds no such tower.
    """
    if path.suffix == ".npz":
        return _put_big_vision(part, module, path, shapes)
    keys = read_keys(path)
    fast = next((fast for name, fast in APPLE.items() if name in keys), None)
    if fast is not None:
        state = _convert_apple(part, module, path, fast, shapes)
    else:
        state = pick_weights(path, lambda name: is_part(part, name, keys))
        if part == "text":
            state = {name if name.startswith("text.") else f"text.{name}": x for name, x in state.items()}
    state = {name: x for name, x in state.items() if name.startswith(f"{part}.")}
    if not state:
        first = ", ".join(sorted(keys)[:3])
        raise ValueError(f"{path} does not hold the weights of an open_clip {part} tower; its names begin {first}, …")
    return {name.removeprefix(f"{part}."): x for name, x in _resize(part, module, path, state).items()}


def is_part(part: str, name: str, keys: Collection[str]) -> bool:
    """Return True for a name of a tower's tensor. keys: all names of the file, which tell the layout."""
    if name.startswith(f"{part}."):
        return not name.endswith(MASK)
    return part == "text" and "positional_embedding" in keys and name.startswith(BESIDE) and not name.endswith(MASK)


def unknown_names(keys: Collection[str]) -> list[str]:
    """Return the names in a file that belong to no part of an open_clip model."""
    if any(name in keys for name in APPLE):
        return []
    parts = ("visual", "text")
    return [
        n
        for n in keys
        if not n.startswith(OTHERS) and not n.endswith(MASK) and not any(is_part(part, n, keys) for part in parts)
    ]


def read_scale(path: Path) -> tuple[float, float]:
    """Return the multiplier and the bias of the logits that a model was trained with.

    Raises ValueError for a file that has no ``logit_scale``.
    """
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path) as file:
            root = "params/" if "params/b" in file else ""
            found = {SCALE: torch.from_numpy(file[f"{root}t"]), BIAS: torch.from_numpy(file[f"{root}b"])}
    else:
        found = pick_weights(path, lambda name: name in (SCALE, BIAS))
    if SCALE not in found:
        raise ValueError(f"{path} does not fit the model: 1 missing: {SCALE}")
    scale = weight_values.read_scale(found[SCALE], SCALE, path)
    return scale, weight_values.read_number(found.get(BIAS, torch.zeros(())), BIAS, path)


def _resize(part: str, module: nn.Module, path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with a table of positions of the tower's own length, as open_clip interpolates it."""
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    resize: Any = resize_pos_embed if part == "visual" else resize_text_pos_embed
    try:
        resize(state, SimpleNamespace(**{part: module}))
    except (AssertionError, RuntimeError, AttributeError) as error:
        first = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} has a table of positions that does not fit the model: {first}") from error
    return state


def _convert_apple(part: str, module: nn.Module, path: Path, fast: bool, shapes: Shapes) -> dict[str, Tensor]:
    """Return the tensors of Apple's layout under open_clip's names. Of the other tower nothing is read (mapped)."""
    from open_clip.convert import convert_mobile_clip_state_dict

    model: Any = SimpleNamespace(**{**shapes(), part: module})
    try:
        return convert_mobile_clip_state_dict(model, pick_weights(path, lambda _: True), fastvit=fast)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is not wholly in Apple's layout of MobileCLIP: {error}") from error


def _put_big_vision(part: str, module: nn.Module, path: Path, shapes: Shapes) -> None:
    """Put the weights of big_vision's SigLIP into a tower. For the converter the other tower has shapes alone."""
    from open_clip.convert import load_big_vision_weights

    numbers = {SCALE: torch.zeros(1), BIAS: torch.zeros(1)}
    model: Any = SimpleNamespace(**{**shapes(), part: module, **numbers})
    try:
        load_big_vision_weights(model, str(path))
    except (KeyError, RuntimeError, ValueError, AssertionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} does not fit the model: {type(error).__name__}: {reason}") from error

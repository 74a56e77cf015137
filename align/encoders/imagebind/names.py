"""Names of ImageBind's tensors, as its checkpoint has them, for each of ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

BLOCK = {
    "norm1.weight": "norm_1.weight",
    "norm1.bias": "norm_1.bias",
    "qkv.weight": "attn.in_proj_weight",
    "qkv.bias": "attn.in_proj_bias",
    "extra_key": "attn.bias_k",
    "extra_value": "attn.bias_v",
    "out.weight": "attn.out_proj.weight",
    "out.bias": "attn.out_proj.bias",
    "norm2.weight": "norm_2.weight",
    "norm2.bias": "norm_2.bias",
    "up.weight": "mlp.fc1.weight",
    "up.bias": "mlp.fc1.bias",
    "down.weight": "mlp.fc2.weight",
    "down.bias": "mlp.fc2.bias",
}


class Names(NamedTuple):
    """Published names of one tower. A norm is the name of its module."""

    key: str
    read: str
    position: str
    norm: str
    project: str
    first: str = ""
    read_norm: str = ""

    @property
    def blocks(self) -> str:
        return f"modality_trunks.{self.key}.blocks."

    @property
    def trunk_norm(self) -> str:
        return f"modality_trunks.{self.key}.pre_transformer_layer.0"

    @property
    def scale(self) -> str:
        return f"modality_postprocessors.{self.key}.1.log_logit_scale"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of the names of all tensors of the tower."""
        return tuple(f"modality_{part}.{self.key}." for part in PARTS)

    def holds(self, name: str) -> bool:
        """Return True for the name of a tensor of this tower."""
        return name.startswith(self.prefixes)


PARTS = ("preprocessors", "trunks", "heads", "postprocessors")


def _name(key: str, read: str, position: str = "pos_embedding_helper.pos_embed", project: str = "2") -> Names:
    """Return the names of a tower with a class token. read: its module of patches."""
    stem, head = f"modality_preprocessors.{key}.", f"modality_heads.{key}."
    norm = f"{stem}{read.partition('.')[0]}.norm_layer"
    places = f"{stem}{read}.weight", f"{stem}{position}", f"{head}0", f"{head}{project}.weight"
    return Names(key, *places, f"{stem}cls_token", norm)


NAMES = {
    "image": _name("vision", "rgbt_stem.proj.1"),
    "text": Names(
        "text",
        "modality_preprocessors.text.token_embedding.weight",
        "modality_preprocessors.text.pos_embed",
        "modality_heads.text.proj.0",
        "modality_heads.text.proj.1.weight",
    ),
    "audio": _name("audio", "rgbt_stem.proj"),
    "depth": _name("depth", "depth_stem.proj"),
    "thermal": _name("thermal", "rgbt_stem.proj"),
    "imu": _name("imu", "imu_stem.proj", "pos_embed", "3"),
}
MASK = "modality_preprocessors.text.mask"
"""The mask of text, a constant: a token sees those before it and itself."""


def published_name(modality: str, name: str) -> str:
    """Return the name in the checkpoint of a tensor of ``ImageBind``'s state dict."""
    names = NAMES[modality]
    if name.startswith("blocks."):
        _, number, rest = name.split(".", 2)
        return f"{names.blocks}{number}.{BLOCK[rest]}"
    tensors = {
        "stem.first": names.first,
        "stem.position": names.position,
        "stem.read.weight": names.read,
        "project.weight": names.project,
    }
    modules = {"stem.norm": names.read_norm, "trunk_norm": names.trunk_norm, "norm": names.norm}
    module, _, end = name.rpartition(".")
    return tensors.get(name) or f"{modules[module]}.{end}"


def count_blocks(names: Names, keys: Iterable[str]) -> int:
    """Return the number of blocks that a tower has in a file."""
    found = (re.match(re.escape(names.blocks) + r"(\d+)\.", key) for key in keys)
    return len({match[1] for match in found if match})


def list_modalities(keys: Collection[str]) -> list[str]:
    """Return the modalities of which a file has tensors, in our order."""
    return [modality for modality, names in NAMES.items() if any(map(names.holds, keys))]

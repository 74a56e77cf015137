"""Weights of open_clip's models under the names that their first publishers gave them."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

FASTVIT = {
    "stem": "patch_embed",
    "conv_kxk": "rbr_conv",
    "conv_scale": "rbr_scale",
    "identity": "rbr_skip",
    "final_conv": "conv_exp",
    "large_conv": "lkb_origin",
    "mlp": "convffn",
    "se.fc1": "se.reduce",
    "se.fc2": "se.expand",
    ".gamma": "",
    "head.fc.weight": "head.proj",
}
HYBRID = {
    "patch_embed.backbone.": "patch_emb.",
    ".conv.": ".block.conv.",
    ".bn.": ".block.norm.",
    "blocks.": "transformer.",
    "norm1": "pre_norm_mha.0",
    "attn": "pre_norm_mha.1",
    "norm2": "pre_norm_ffn.0",
    "mlp.fc1": "pre_norm_ffn.1",
    "mlp.fc2": "pre_norm_ffn.4",
    "qkv.": "qkv_proj.",
    "1.proj.": "1.out_proj.",
    "head.weight": "classifier.proj",
    "pos_embed": "pos_embed.pos_embed.pos_embed",
}
TEXT = {
    "transformer.resblocks": "transformer",
    "ln_1": "pre_norm_mha.0",
    "attn": "pre_norm_mha.1",
    "ln_2": "pre_norm_ffn.0",
    "mlp.c_fc": "pre_norm_ffn.1",
    "mlp.c_proj": "pre_norm_ffn.4",
    "in_proj_": "qkv_proj.",
    "ln_final": "final_layer_norm",
    "text_projection": "projection_layer",
    "token_embedding": "embedding_layer",
    "positional_embedding": "positional_embedding.pos_embed.pos_embed",
}


def apple(state: dict[str, Tensor], fast: bool) -> dict[str, Tensor]:
    """Return a MobileCLIP's state as Apple published it. Its image projection has no bias, so that one is lost."""
    out = {"logit_scale": state["logit_scale"]}
    places = _places(state)
    for name, x in state.items():
        part, _, rest = name.partition(".")
        if part == "text":
            x = x[None, None] if rest == "positional_embedding" else x
            out[f"text_encoder.{_rename(rest, TEXT)}"] = x
        elif rest.startswith("trunk.") and not rest.endswith(("head.fc.bias", "trunk.head.bias")):
            rest = rest.removeprefix("trunk.")
            x = x.T if rest in ("head.fc.weight", "head.weight") else x
            x = x[None] if rest == "pos_embed" else x
            for place, number in places.items():
                rest = rest.replace(place, number) if rest.startswith(place) else rest
            rest = re.sub(r"^norm\.", "post_transformer_norm.", rest)
            out[f"image_encoder.model.{_rename(rest, FASTVIT if fast else HYBRID)}"] = x
    return out


def _places(state: dict[str, Tensor]) -> dict[str, str]:
    """Return FastViT's stages as the flat list of modules that Apple has: stages.1.blocks -> network.2."""
    found, n = {}, 0
    for stage in range(4):
        for part, flat in (("downsample.proj", ".proj"), ("pos_emb.pos_enc", ".pe"), ("blocks", "")):
            place = f"stages.{stage}.{part}"
            if any(name.startswith(f"visual.trunk.{place}") for name in state):
                found[place], n = f"network.{n}{flat}", n + 1
    return found


def _rename(name: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def big_vision(state: dict[str, Tensor], heads: int) -> dict[str, np.ndarray]:
    """Return a SigLIP's state as big_vision's arrays: kernels (in, out), attention (in, heads, width)."""
    out = {"params/t": state["logit_scale"].reshape(1), "params/b": state["logit_bias"].reshape(1)}

    def norm(theirs: str, ours: str) -> None:
        out[f"{theirs}/scale"], out[f"{theirs}/bias"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def dense(theirs: str, ours: str) -> None:
        out[f"{theirs}/kernel"], out[f"{theirs}/bias"] = state[f"{ours}.weight"].T, state[f"{ours}.bias"]

    def attention(theirs: str, weight: Tensor, bias: Tensor, ours: str) -> None:
        parts = zip(("query", "key", "value"), weight.chunk(3), bias.chunk(3), strict=True)
        for name, w, b in parts:
            out[f"{theirs}/{name}/kernel"] = w.T.unflatten(1, (heads, -1))
            out[f"{theirs}/{name}/bias"] = b.unflatten(0, (heads, -1))
        out[f"{theirs}/out/kernel"] = state[f"{ours}.weight"].T.unflatten(0, (heads, -1))
        out[f"{theirs}/out/bias"] = state[f"{ours}.bias"]

    def mlp(theirs: str, first: str, second: str) -> None:
        dense(f"{theirs}/MlpBlock_0/Dense_0", first), dense(f"{theirs}/MlpBlock_0/Dense_1", second)

    trunk, img = "visual.trunk.", "params/img/"
    out[f"{img}embedding/kernel"] = state[f"{trunk}patch_embed.proj.weight"].permute(2, 3, 1, 0)
    out[f"{img}embedding/bias"] = state[f"{trunk}patch_embed.proj.bias"]
    out[f"{img}pos_embedding"] = state[f"{trunk}pos_embed"]
    if f"{trunk}cls_token" in state:
        out[f"{img}cls"] = state[f"{trunk}cls_token"]
    for i in range(_count(state, f"{trunk}blocks.")):
        block, theirs = f"{trunk}blocks.{i}.", f"{img}Transformer/encoderblock_{i}"
        norm(f"{theirs}/LayerNorm_0", f"{block}norm1"), norm(f"{theirs}/LayerNorm_1", f"{block}norm2")
        qkv = state[f"{block}attn.qkv.weight"], state[f"{block}attn.qkv.bias"]
        attention(f"{theirs}/MultiHeadDotProductAttention_0", *qkv, f"{block}attn.proj")
        mlp(theirs, f"{block}mlp.fc1", f"{block}mlp.fc2")
    norm(f"{img}Transformer/encoder_norm", f"{trunk}norm")
    pool, head = f"{trunk}attn_pool.", f"{img}MAPHead_0"
    out[f"{head}/probe"] = state[f"{pool}latent"]
    weight, bias = (torch.cat([state[f"{pool}q.{x}"], state[f"{pool}kv.{x}"]]) for x in ("weight", "bias"))
    attention(f"{head}/MultiHeadDotProductAttention_0", weight, bias, f"{pool}proj")
    norm(f"{head}/LayerNorm_0", f"{pool}norm"), mlp(head, f"{pool}mlp.fc1", f"{pool}mlp.fc2")
    txt = "params/txt/"
    out[f"{txt}Embed_0/embedding"] = state["text.token_embedding.weight"]
    out[f"{txt}pos_embedding"] = state["text.positional_embedding"][None]
    for i in range(_count(state, "text.transformer.resblocks.")):
        block, theirs = f"text.transformer.resblocks.{i}.", f"{txt}Encoder_0/encoderblock_{i}"
        norm(f"{theirs}/LayerNorm_0", f"{block}ln_1"), norm(f"{theirs}/LayerNorm_1", f"{block}ln_2")
        qkv = state[f"{block}attn.in_proj_weight"], state[f"{block}attn.in_proj_bias"]
        attention(f"{theirs}/MultiHeadDotProductAttention_0", *qkv, f"{block}attn.out_proj")
        mlp(theirs, f"{block}mlp.c_fc", f"{block}mlp.c_proj")
    norm(f"{txt}Encoder_0/encoder_norm", "text.ln_final"), dense(f"{txt}head", "text.text_projection")
    return {name: x.numpy() for name, x in out.items()}


def _count(state: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))

"""The last attention of a vision transformer, changed without training, so that a token keeps to its place.

Contrastive training shapes the class token alone. So in the last block a patch attends to whatever the class token
needs, and its features say little of its place. Two published changes of this block repair that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.transformer import Block

Attention = Literal["plain", "value", "self"]
M = TypeVar("M", bound=nn.Module)

LISTS = (
    "blocks",  # ours
    "model.blocks",  # timm's
    "visual.trunk.blocks",  # timm's in open_clip
    "visual.transformer.resblocks",  # open_clip's
    "model.vision_model.encoder.layers",  # transformers'
)
"""Paths, inside of an encoder, of the blocks whose last one is changed."""


def with_last_attention(encoder: M, kind: Attention) -> M:
    """Return an encoder around the same parameters whose last block attends in another way. It itself is not changed.

    - "plain": as it was trained.
    - "value": the attention of a token is its value, projected (Zhou et al. 2022, MaskCLIP, arXiv:2112.01071,
      section 3.2). The residual and the MLP stay.
    - "self": queries attend to queries and keys to keys, and the two are added: (softmax(q qᵀ / √d) + softmax(k kᵀ /
      √d)) v (Wang et al. 2023, SCLIP, arXiv:2312.01597, section 3.2, correlative self-attention).

    Raises ValueError for another kind, and for an encoder that is no vision transformer of timm, open_clip or
    transformers (CLIP, SigLIP), and none of our transformers.
    """
    if kind not in get_args(Attention):
        raise ValueError(f"attention={kind!r} is not known; it may be {', '.join(map(repr, get_args(Attention)))}")
    if kind == "plain":
        return encoder
    inner = getattr(encoder, "image", None)  # SpectrogramImage
    if isinstance(inner, nn.Module):
        return _replace(encoder, ["image"], lambda module: with_last_attention(module, kind))
    for path in LISTS:
        steps = path.split(".")
        blocks = _find(encoder, steps)
        if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not len(blocks):
            continue
        last = blocks[-1]
        names = [name for name in ("attn", "self_attn") if isinstance(getattr(last, name, None), nn.Module)]
        changed = _change(_find(last, names), kind)
        if changed is not None:
            return _replace(encoder, [*steps, str(len(blocks) - 1), *names], lambda _, changed=changed: changed)
    model = type(getattr(encoder, "model", None) or getattr(encoder, "visual", None) or encoder).__name__
    raise ValueError(
        f"attention={kind!r} changes the last block of a vision transformer, and {type(encoder).__name__} "
        f"({model}) has none that is known; take 'plain'"
    )


def _find(module: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        module = getattr(module, step, None)
    return module


def _replace(module: Any, steps: list[str], change: Callable[[Any], nn.Module]) -> Any:
    """Return a module with another one in the place of a part. Modules on the way are new, and all else is shared."""
    if not steps:
        return change(module)
    out = copy.copy(module)
    part = _replace(getattr(module, steps[0]), steps[1:], change)
    vars(out).update(_modules={**module._modules, steps[0]: part}, _compiled_call_impl=None)
    return out


def _change(attention: nn.Module, kind: Attention) -> nn.Module | None:
    """Return an attention, or a block of ours, that attends in another way. None for one that is not known."""
    if isinstance(attention, Block):
        return _InBlock(attention, kind)
    if isinstance(attention, nn.MultiheadAttention):
        whole = attention.in_proj_weight is not None and attention.bias_k is None and not attention.add_zero_attn
        return _Torch(attention, kind) if whole else None
    if type(attention).__module__.startswith("timm."):
        from timm.models.vision_transformer import Attention as Known  # pyright: ignore[reportPrivateImportUsage]

        return _Timm(attention, kind) if type(attention) is Known else None
    parts = ("q_proj", "k_proj", "v_proj", "out_proj", "head_dim")
    return _Transformers(attention, kind) if all(hasattr(attention, name) for name in parts) else None


def _attend(q: Tensor, k: Tensor, v: Tensor, kind: Attention, seen: Tensor | None = None) -> Tensor:
    """Return (n, heads, L, d) of queries, keys and values of that shape. seen: (n, 1, 1, L), true where a token is."""
    if kind == "value":
        return v
    return F.scaled_dot_product_attention(q, q, v, attn_mask=seen) + F.scaled_dot_product_attention(
        k, k, v, attn_mask=seen
    )


def _split(x: Tensor, heads: int) -> Tensor:
    """Return (n, heads, L, d) of (n, L, heads · d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class _Changed(nn.Module):
    """Abstract: an attention, or a block of ours, that attends in another way."""

    def __init__(self, module: Any, kind: Attention):
        super().__init__()
        self.module: Any = module
        self.kind: Attention = kind


class _InBlock(_Changed):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        block = self.module
        q, k, v = (_split(part, block.heads) for part in block.qkv(block.norm1(x)).chunk(3, -1))
        y = _attend(q, k, v, self.kind, None if mask is None else mask[:, None, None])
        x = x + block.out(y.transpose(1, 2).flatten(2))
        return x + block.down(F.gelu(block.up(block.norm2(x))))


class _Timm(_Changed):
    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        attn = self.module
        q, k, v = (_split(part, attn.num_heads) for part in attn.qkv(x).chunk(3, -1))
        y = _attend(attn.q_norm(q), attn.k_norm(k), v, self.kind).transpose(1, 2).flatten(2)
        y = getattr(attn, "norm", nn.Identity())(y)
        gate = getattr(attn, "gate", None)
        return attn.proj(y if gate is None else y * gate(x).sigmoid())


class _Torch(_Changed):
    def forward(self, x: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        attn = self.module
        x = x if attn.batch_first else x.transpose(0, 1)
        parts = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1)
        q, k, v = (_split(part, attn.num_heads) for part in parts)
        y = attn.out_proj(_attend(q, k, v, self.kind).transpose(1, 2).flatten(2))
        return y if attn.batch_first else y.transpose(0, 1), None


class _Transformers(_Changed):
    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        attn = self.module
        heads = attn.q_proj.out_features // attn.head_dim
        q, k, v = (_split(part(hidden_states), heads) for part in (attn.q_proj, attn.k_proj, attn.v_proj))
        return attn.out_proj(_attend(q, k, v, self.kind).transpose(1, 2).flatten(2)), None

"""An adapter of torch's fused attention, whose input weights belong to no layer that is called.

peft's adapter adds the low-rank product to the weights in each forward pass and subtracts it again. That changes the
last bits of the frozen weights (1.5e-8 after a pass). This adapter computes the sums beside the weights.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.model.adapters import BASE


class Output(NamedTuple):
    """Output layer of an adapted attention, for an encoder that reads its weights or calls it."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@final
class FusedAttention(nn.Module):
    """``nn.MultiheadAttention`` with a low-rank product beside its input weights and one beside its output weights.

    Args:
        base_layer: the attention, whose queries, keys and values have one width W.
        rank: of both products.
        scale: factor of both products.

    The products begin at zero. Its dropout is the attention's own.
    """

    def __init__(self, base_layer: nn.MultiheadAttention, rank: int, scale: float):
        super().__init__()
        self.base_layer, self.scale = base_layer, scale
        width, like = base_layer.embed_dim, base_layer.in_proj_weight
        place = {"device": like.device, "dtype": like.dtype}
        self.lora_A = nn.Parameter(torch.empty(rank, width))
        self.lora_B = nn.Parameter(torch.zeros(3 * width, rank, **place))
        self.lora_out_A = nn.Parameter(torch.empty(rank, width))
        self.lora_out_B = nn.Parameter(torch.zeros(width, rank, **place))
        for a in (self.lora_A, self.lora_out_A):  # as peft's, on the CPU: the same draw on each device
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
            a.data = a.data.to(**place)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the attention where the adapter has none, its weights with the products added."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if BASE not in vars(self).get("_modules", {}):
                raise
        if name == "in_proj_weight":
            return self.sums()[0]
        base = self.base_layer
        return Output(self.sums()[1], base.out_proj.bias) if name == "out_proj" else getattr(base, name)

    def sums(self) -> tuple[Tensor, Tensor]:
        """Return the weights with the products: (3 W, W) of queries, keys and values, and (W, W) of the output."""
        base = self.base_layer
        return (
            base.in_proj_weight + self.scale * (self.lora_B @ self.lora_A),
            base.out_proj.weight + self.scale * (self.lora_out_B @ self.lora_out_A),
        )

    @torch.no_grad()
    def merge(self) -> None:
        """Put the sums into the attention's weights."""
        into, out = self.sums()
        self.base_layer.in_proj_weight.copy_(into)
        self.base_layer.out_proj.weight.copy_(out)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output and the attention weights, as ``nn.MultiheadAttention`` takes and returns them."""
        base, (into, out) = self.base_layer, self.sums()
        turned = base.batch_first and query.dim() == 3
        if turned:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        y, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            base.embed_dim,
            base.num_heads,
            into,
            base.in_proj_bias,
            base.bias_k,
            base.bias_v,
            base.add_zero_attn,
            base.dropout,
            out,
            base.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (y.transpose(0, 1) if turned else y), weights

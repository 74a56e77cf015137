"""Pooling of a text's tokens: their mean, the first, or the last. Padding stands behind the tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pack(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids (n, L) and mask (n, L) bool with the padding of each row moved behind its tokens.

    A row padded on the left and the same row padded on the right become equal. A row of padding alone keeps its first
    token, so that no attention is empty.
    """
    order = torch.argsort((mask == 0).to(torch.uint8), dim=1, stable=True)
    ids, real = ids.gather(1, order), mask.gather(1, order) != 0
    return ids, torch.cat([torch.ones_like(real[:, :1]), real[:, 1:]], 1)


def both_ways(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask (n, 1, L, L) that is added to attention scores so that each token sees every real token.

    A decoder of transformers takes it in place of its causal mask. Removing that mask is the first step of LLM2Vec
    (BehnamGhader et al. 2024, arXiv:2404.05961, section 2.1).
    """
    n, L = mask.shape
    hidden = torch.zeros((n, 1, 1, L), dtype=dtype, device=mask.device)
    hidden = hidden.masked_fill(~mask[:, None, None], torch.finfo(dtype).min)
    return hidden.expand(n, 1, L, L)


def mean_token(x: Tensor, mask: Tensor) -> Tensor:
    """Return (n, W), the mean of the real tokens of x (n, L, W)."""
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def first_token(x: Tensor, mask: Tensor) -> Tensor:
    """Return (n, W), the first token, which encoders such as BERT keep for the whole text."""
    return x[:, 0]


def last_token(x: Tensor, mask: Tensor) -> Tensor:
    """Return (n, W), the last real token, the only one in a causal decoder that has seen all others."""
    last = mask.sum(1) - 1
    return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_token,
    "cls": first_token,
    "last": last_token,
    "latent": mean_token,  # of the latent attention's output
}

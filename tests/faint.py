"""Weights with which the epsilon of every normalisation counts: what a norm reads is a hundredth of what it usually is.

A variance of 1 hides an epsilon: 1e-6 in place of 1e-5 moves a vector by 4e-6. Here the tensors that write to the
stream of tokens are a hundredth of those of ``fill_named``, and running variances are 1e-4, so it moves by percents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

EMBEDDED = r"token_embedding\.weight|text_branch\.embeddings\.\w+_embeddings\.weight"
LAST = r"text_branch\.encoder\.layer\.1\.output\.LayerNorm\."  # its values leave the encoder
BIASES = r"text_branch\..*bias|patch_embed\.(proj|mel_conv2d)\.bias|local_att\.0\.bias|global_att\.1\.bias|^proj\.bias"
BEFORE_BATCH_NORM = r"sa\.mlp_convs\.|(first|second)_conv\.0\.|local_att\.3\.|global_att\.4\.|running_mean$"
TOKENS = r"cls_token$|cls_pos$|pos_embed$|pos_embed\.2\.|lift\.\d\.|reduce_dim\.|encoder2trans\."
STREAM = r"attn\.(out_)?proj\.|to_out\.0\.|mlp\.fc2\.|fn\.net\.3\.|mlp\.fc1_x\.|downsample\.reduction\."
STEM_NORMS = r"norm_layer\.|patch_embed\.norm\.|pre_transformer_layer\.0\.|text_branch\..*LayerNorm\."
FACTORS = {  # the first that is found in a name
    r"bn0\.running_mean$": 1,  # decibels
    r"bn0\.running_var$": 1e-6,
    r"bn0\.weight$": 1e-5,
    r"running_var$": 1e-4,
    LAST: 1,
    EMBEDDED: 0.05,
    "|".join((r"bn0\.bias$", BIASES, BEFORE_BATCH_NORM, TOKENS, STREAM, STEM_NORMS)): 0.01,
}


def make_faint(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return filled tensors of a published layout, those of ``FACTORS`` smaller."""
    return {name: (x * _factor(name)).to(x.dtype) for name, x in tensors.items()}


def _factor(name: str) -> float:
    return next((factor for part, factor in FACTORS.items() if re.search(part, name)), 1)

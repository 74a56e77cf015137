"""Sizes of LAION's CLAP, read from the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from align.published.shapes import read_shape

AUDIO, TEXT = "audio_branch.", "text_branch."
SIZE = 256  # of the picture, where no mask tells it
HEAD = 64  # numbers of one head of RoBERTa


def audio_sizes(tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return the arguments of HTSAT.

    Raises ValueError for a tensor that is missing or has another number of dimensions.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return read_shape(tensors, name, dimensions, where)

    patch_width, _, patch, _ = shape(f"{AUDIO}patch_embed.proj.weight", 4)
    depths = _count_blocks(tensors)
    tables = [shape(f"{AUDIO}layers.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in range(len(depths))]
    window = (isqrt(tables[0][0]) + 1) // 2 if tables else 1
    mask = f"{AUDIO}layers.0.blocks.1.attn_mask"
    n_fft = shape(f"{AUDIO}spectrogram_extractor.stft.conv_real.weight", 3)[2]
    return {
        "patch_width": patch_width,
        "depths": depths,
        "heads": [heads for _, heads in tables],
        "n_mels": shape(f"{AUDIO}bn0.weight", 1)[0],
        "size": isqrt(shape(mask, 3)[0]) * window * patch if mask in tensors else SIZE,
        "patch": patch,
        "window": window,
        "fusion": f"{AUDIO}patch_embed.mel_conv2d.weight" in tensors,
        "projection": shape("audio_projection.0.weight", 2)[0],
        "preprocess": {} if n_fft == 1024 else {"n_fft": n_fft},
    }


def text_sizes(tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Return transformers' config of CLAP's text tower.

    The traps: RoBERTa's layer normalisation has an epsilon of 1e-5, transformers' CLAP another default, 1e-12.

    Raises ValueError as ``audio_sizes``, and for a text branch that is no RoBERTa.
    """

    def shape(name: str, dimensions: int = 2) -> tuple[int, ...]:
        return read_shape(tensors, name, dimensions, where)

    words = f"{TEXT}embeddings.word_embeddings.weight"
    kinds = f"{TEXT}embeddings.token_type_embeddings.weight"
    if words not in tensors or (kinds in tensors and tensors[kinds].shape[:1] != (1,)):
        raise ValueError(f"{where} has a text branch that is no RoBERTa; its sounds alone are read with --towers audio")
    vocabulary, width = shape(words)
    layers = {int(m[1]) for k in tensors if (m := re.match(rf"{re.escape(TEXT)}encoder\.layer\.(\d+)\.", k))}
    return {
        "model_type": "clap_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": 1 + max(layers, default=0),
        "num_attention_heads": max(1, width // HEAD),
        "intermediate_size": shape(f"{TEXT}encoder.layer.0.intermediate.dense.weight")[0],
        "max_position_embeddings": shape(f"{TEXT}embeddings.position_embeddings.weight")[0],
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "projection_dim": shape("text_projection.0.weight")[0],
        "projection_hidden_act": "relu",
    }


def _count_blocks(tensors: Mapping[str, Tensor]) -> list[int]:
    """Return the number of blocks of each stage."""
    pattern = re.compile(rf"{re.escape(AUDIO)}layers\.(\d+)\.blocks\.(\d+)\.")
    found = {(int(m[1]), int(m[2])) for k in tensors if (m := pattern.match(k))}
    stages = 1 + max((i for i, _ in found), default=-1)
    return [1 + max((j for i, j in found if i == stage), default=0) for stage in range(stages)]

"""Constants that LAION's CLAP carries among its weights: held against those that our code computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from align.encoders import HTSAT
from align.preprocess.spectrogram import slaney_bands
from align.preprocess.wanted import build_wanted

NEAR = 1e-6
ENDS = (".relative_position_index", ".attn_mask", ".embeddings.position_ids", ".embeddings.token_type_ids")
FRONT = ("audio_branch.spectrogram_extractor.", "audio_branch.logmel_extractor.")


def is_constant(name: str) -> bool:
    """Return True for a tensor that no training changes."""
    return name.endswith(ENDS) or name.startswith(FRONT)


def check_constants(tensors: Mapping[str, Tensor], encoder: HTSAT, where: str) -> None:
    """Raise ValueError where a file's windows of attention, Fourier matrices or mel bands are not ours."""
    for name, ours in (*_attention(encoder), *_front_end(encoder)):
        if name not in tensors:
            continue
        theirs = tensors[name]
        if theirs.shape != ours.shape or not torch.allclose(theirs.double(), ours.double(), rtol=0, atol=NEAR):
            raise ValueError(f"{where} was trained with another constant than ours: {name}")


def _attention(encoder: HTSAT) -> Iterator[tuple[str, Tensor]]:
    for i, stage in enumerate(encoder.stages):
        for j, block in enumerate(stage.blocks):  # pyright: ignore[reportArgumentType]
            attention = block.attention
            yield f"audio_branch.layers.{i}.blocks.{j}.attn.relative_position_index", attention.index
            if attention.mask is not None:
                yield f"audio_branch.layers.{i}.blocks.{j}.attn_mask", attention.mask


def _front_end(encoder: HTSAT) -> Iterator[tuple[str, Tensor]]:
    """Yield the matrices of the unfused front end, which files with fusion carry too and do not use."""
    options, rate = build_wanted(encoder.wants()).spectrogram, 48000  # pyright: ignore[reportAttributeAccessIssue]
    bands = slaney_bands(rate, options.n_fft, options.n_mels, options.f_min, options.f_max)
    yield "audio_branch.logmel_extractor.melW", bands.T
    at = torch.arange(options.n_fft, dtype=torch.float64)
    hann = torch.hann_window(options.n_fft, dtype=torch.float64)
    turn = 2 * torch.pi / options.n_fft * ((at[: options.n_fft // 2 + 1, None] * at) % options.n_fft)
    for part, wave in {"real": turn.cos(), "imag": -turn.sin()}.items():
        yield f"audio_branch.spectrogram_extractor.stft.conv_{part}.weight", (wave * hann)[:, None]

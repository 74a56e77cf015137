"""Figures of ``laion_clap.py --port``: transformers' CLAP with LAION's weights, beside LAION's own code."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import laion_clap as golden
import numpy as np
import proof
import torch
from torch import Tensor
from torch.nn.functional import normalize

RULES = (
    (r"^audio_branch\.bn0\.", "audio_model.audio_encoder.batch_norm."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^text_branch\.", "text_model."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
)


def run(ref: SimpleNamespace, recordings: list[np.ndarray], fusion: bool) -> None:
    """Print how far transformers is from LAION's code, one difference after the other."""
    from transformers import ClapFeatureExtractor

    name, truncation = ("fused", "fusion") if fusion else ("unfused", "rand_trunc")
    model: Any = golden.make_reference(ref, fusion)
    state = golden.set_weights(model, 1)
    port = convert(state, fusion)
    waves = [*recordings, *golden.make_waves(1)]
    theirs, mels = golden.hear(ref, model, waves, fusion)
    longer = [fusion and len(x) > 480_480 for x in waves]
    say(f"{name}: the model, on LAION's spectrograms and marks", embed(port, mels, longer), theirs)
    if fusion:
        say(f"{name}: the model, every sound marked", embed(port, mels, [True] * len(waves)), theirs)
        say(
            f"{name}: LAION's code with the torchvision of today", golden.hear(ref, model, waves, True, True)[0], theirs
        )
    quantised = [ref.data.int16_to_float32(ref.data.float32_to_int16(x)) for x in waves]
    for label, sounds, options, kind in (
        ("its processor, 50 Hz, 16 bits", quantised, {"frequency_min": 50}, truncation),
        ("its processor, 50 Hz", waves, {"frequency_min": 50}, truncation),
        ("its processor's default of 0 Hz", waves, {}, truncation),
        ("its processor's other bands", waves, {"frequency_min": 50}, "fusion" if not fusion else "rand_trunc"),
    ):
        rows, marks = process(ClapFeatureExtractor(truncation=kind, **options), sounds)
        rows = [x[:1] if not fusion else x.expand(4, -1, -1) for x in rows]
        say(f"{name}: {label}", embed(port, rows, longer if fusion else marks), theirs)
    if not fusion:
        ids = golden.make_ids(1)
        for eps in (1e-5, 1e-12):
            say(f"texts: epsilon {eps}", read(convert(state, fusion, eps), ids), golden.read(model, ids))


def say(label: str, ours: Tensor, theirs: Tensor) -> None:
    found = proof.measure(ours, theirs)
    print(f"{label}: value {found.value:.1e}, least cosine {1 - found.cosine:.6f}", flush=True)


def convert(state: dict[str, Tensor], fusion: bool, eps: float = 1e-5) -> Any:
    """Return transformers' model with LAION's weights."""
    from transformers import ClapConfig, ClapModel

    audio = {"patch_embeds_hidden_size": 8, "depths": [2, 1, 1, 2], "num_attention_heads": [1, 2, 2, 4]}
    audio |= {"hidden_size": 64, "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    text = golden.TEXT | {"layer_norm_eps": eps}
    made = ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=golden.DIM)).eval()
    found: dict[str, Tensor] = {}
    for key, x in state.items():
        for pattern, new in RULES:
            key = re.sub(pattern, new, key)
        if ".qkv." in key:
            found |= {
                key.replace("qkv", part): y for part, y in zip(("query", "key", "value"), x.chunk(3), strict=True)
            }
        else:
            found[key] = x
    wanted = made.state_dict()
    ids = ("position_ids", "token_type_ids")
    assert not [key for key in wanted if key not in found and not key.endswith(ids)]
    made.load_state_dict({key: found.get(key, x) for key, x in wanted.items()})
    return made


@torch.no_grad()
def embed(port: Any, mels: list[Tensor], longer: list[bool]) -> Tensor:
    """Return unit vectors of spectrograms (1 or 4, frames, bands), each alone."""
    rows = [
        port.get_audio_features(input_features=mel[None], is_longer=torch.tensor([[mark]])).pooler_output
        for mel, mark in zip(mels, longer, strict=True)
    ]
    return normalize(torch.cat(rows), dim=-1)


@torch.no_grad()
def read(port: Any, ids: Tensor) -> Tensor:
    out = port.get_text_features(input_ids=ids, attention_mask=(ids != 1).long()).pooler_output
    return normalize(out, dim=-1)


def process(extractor: Any, waves: list[np.ndarray]) -> tuple[list[Tensor], list[bool]]:
    """Return transformers' spectrograms of waves, each alone, its draws fixed to the middle, and its marks."""
    rows, marks = [], []
    for wave in waves:
        with (
            patch("numpy.random.randint", lambda low, high=None: 0 if high is None else (high - low) // 2),
            patch("numpy.random.choice", lambda places: places[len(places) // 2]),
        ):
            made = extractor(wave, sampling_rate=golden.RATE, return_tensors="pt")
        rows.append(made["input_features"][0])
        marks.append(bool(made["is_longer"][0]))
    return rows, marks

"""Figures of ``laion_clap.py --compare`` and ``--whole``: other seeds, other fills, and the published sizes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import laion_clap as golden
import numpy as np
import proof
import torch
from fill import draw
from torch import Tensor, nn
from torch.nn.functional import normalize

SEEDS = 1, 2, 3


def run(ref: SimpleNamespace, recordings: list[np.ndarray], fusion: bool) -> None:
    """Print the worst differences of the small configuration by three seeds, and its tensors of the least effect."""
    name = "fused" if fusion else "unfused"
    model: Any = golden.make_reference(ref, fusion)
    ours: Any = None
    for seed in SEEDS:
        ours = import_(golden.set_weights(model, seed))
        for kind, waves in {"waves": golden.make_waves(seed), "recordings": recordings}.items():
            theirs, _ = golden.hear(ref, model, waves, fusion)
            print(f"{name} {kind} seed {seed}: {proof.measure(embed(ours, waves), theirs)}", flush=True)
        if not fusion:
            ids = golden.make_ids(seed)
            print(f"texts seed {seed}: {proof.measure(read(ours, ids), golden.read(model, ids))}", flush=True)
    audio = ours.preprocess["audio"]
    rows = audio.device(audio.collate([audio.eval(torch.from_numpy(x)) for x in golden.make_waves(3)]))
    report(name, ours.towers["audio"].encoder, lambda: ours.towers["audio"].encoder(rows).pooled)
    if not fusion:
        report("texts", ours.towers["text"].encoder, lambda: read(ours, golden.make_ids(3)))


def run_whole(ref: SimpleNamespace, recordings: list[np.ndarray], fusion: bool) -> None:
    """Print the worst differences in the sizes of the published files."""
    for size in ("tiny",) if fusion else ("tiny", "base"):
        model: Any = golden.make_reference(ref, fusion, size)
        ours = import_(golden.set_weights(model, 1))
        theirs, _ = golden.hear(ref, model, recordings, fusion)
        name = f"HTSAT-{size}{', fused' if fusion else ''}"
        print(f"{name} recordings: {proof.measure(embed(ours, recordings), theirs)}", flush=True)
        ids = golden.make_ids(1)
        print(f"{name} texts: {proof.measure(read(ours, ids), golden.read(model, ids))}", flush=True)


def import_(state: dict[str, Tensor]) -> Any:
    """Return our model of a published file with these tensors. Its tokenizer is not read."""
    from align.heads import Identity
    from align.model import JointModel, Tower
    from align.preprocess import Bytes
    from align.published import laion_clap

    with tempfile.TemporaryDirectory() as folder:
        file = golden.write_published(state, Path(folder) / "clap.pt")
        tensors = laion_clap.read_weights(file)
        audio, text = laion_clap.make_audio(tensors, "clap.pt"), laion_clap.make_text(tensors, "clap.pt")
    towers = {"audio": Tower(None, audio, Identity), "text": Tower(Bytes(77), text, Identity)}
    return JointModel(towers, audio.width).eval()


@torch.no_grad()
def embed(ours: Any, waves: list[np.ndarray]) -> Tensor:
    audio = ours.preprocess["audio"]
    rows = audio.collate([audio.eval(torch.from_numpy(x)) for x in waves])
    return normalize(ours.towers["audio"](rows), dim=-1)


@torch.no_grad()
def read(ours: Any, ids: Tensor) -> Tensor:
    encoder = ours.towers["text"].encoder
    return normalize(encoder({"input_ids": ids, "attention_mask": (ids != 1).long()}).pooled, dim=-1)


@torch.no_grad()
def report(name: str, module: nn.Module, read: Any) -> None:
    """Print the smallest effects of another fill of one tensor, relative to the largest value."""
    generator, before, moved = torch.Generator().manual_seed(99), read(), {}
    running = {n: x for n, x in module.named_buffers() if n.endswith((proof.RUNNING_MEAN, proof.RUNNING_VAR))}
    for tensor, x in {**dict(module.named_parameters()), **running}.items():
        kept = x.clone()
        new = draw(tensor, x, generator)
        if tensor.startswith("bands.running"):
            new = 300 * new if tensor.endswith("var") else 100 * new - 30
        x.copy_(new)
        moved[tensor] = float((read() - before).abs().max() / before.abs().max())
        x.copy_(kept)
    still = dict(sorted(moved.items(), key=lambda item: item[1])[:12])
    print(f"{name}: {len(moved)} tensors, least effects { ({k: f'{v:.1e}' for k, v in still.items()}) }", flush=True)

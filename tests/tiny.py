"""A training world of vectors for tests: towers of one layer, shards with holes, made in a second."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from align import Features, JointModel, Objective, Term, Tower
from align.data import ShardWriter
from align.losses import InfoNCE
from align.preprocess import Array

modalities = ("image", "audio", "text")
width, dim = 6, 4


class Dense(nn.Module):
    """(n, 6) to features."""

    def __init__(self, width: int = width, dropout: float = 0.0):
        super().__init__()
        self.width, self.dropout = width, dropout
        self.net = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Dropout(dropout))

    def forward(self, values: Tensor) -> Features:
        return Features(self.net(values))


def made(seed: int = 0, *, batch: int = 12, dropout: float = 0.0) -> tuple[JointModel, Objective]:
    """A model and an objective over all pairs, float64."""
    torch.manual_seed(seed)
    model = JointModel({m: Tower(Array((6,)), Dense(dropout=dropout)) for m in modalities}, dim).double()
    terms = {"all": Term(InfoNCE(), "all")}
    return model, Objective(terms, dim=dim, batch=batch, modalities=list(modalities)).double()


def npy(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x.astype(np.float32))
    return out.getvalue()


def write(
    folder: Path, split: str = "train", samples: int = 48, *, missing: float = 0.4, broken: tuple[int, ...] = ()
) -> Path:
    """Shards in which each modality is missing in 40 % of the samples, two rows of `text` where it is there.

    broken: samples whose image cannot be read.
    """
    draw = np.random.default_rng(len(split))
    with ShardWriter(folder, split, per_shard=20) as writer:
        for i in range(samples):
            members, cause = {"json": json.dumps({"label": i % 3}).encode()}, draw.normal(size=6)
            for m in modalities:
                if draw.random() >= missing:
                    names = [f"{m}.0.npy", f"{m}.1.npy"] if m == "text" else [f"{m}.npy"]
                    members |= {name: npy(cause + draw.normal(size=6) / 4) for name in names}
            if i in broken:
                members["image.npy"] = b"no array"
            writer.write(f"{split}{i:04d}", members)
    return folder

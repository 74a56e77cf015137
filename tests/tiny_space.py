"""A joint space that one can work out by eye: three modalities, eight dimensions, nothing to train.

An image and a sound are eight numbers each and stand for themselves; a text is how often it has the letters b to i.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from align.model import JointModel, Tower
from align.preprocess import Array, Bytes
from align.values import Features, TermInfo

D = 8
classes = ["bbb", "ccc", "ddd", "eee", "fff", "ggg"]


class Straight(nn.Module):
    """An encoder that passes its values on."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(values * self.gain)


class Letters(nn.Module):
    """An encoder that counts b, c, …, i."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        letters = torch.arange(ord("b") + 3, ord("b") + 3 + self.width)  # Bytes adds 3
        return Features((values[:, :, None] == letters).sum(dim=1) * self.gain)


class Colours(nn.Module):
    """An encoder of pictures: their mean red, green and blue, then zeros."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(nn.functional.pad(values.mean(dim=(2, 3)), (0, self.width - 3)) * self.gain)


class Pass(nn.Module):
    """A head that changes nothing."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.width, self.dim = width, dim

    def forward(self, features, tokens=False):
        return features.pooled


def model(*kinds: str) -> JointModel:
    """kinds: of the trained terms, "pairwise" (image, text) and "symile" (all three)."""
    towers = {
        "image": Tower(Array([D]), Straight(), Pass),
        "audio": Tower(Array([D]), Straight(), Pass),
        "text": Tower(Bytes(context=32), Letters(), Pass),
    }
    made = JointModel(towers, D).eval()
    known = {
        "pairwise": TermInfo(("image", "text"), "pairwise", 10.0),
        "symile": TermInfo(("image", "audio", "text"), "symile", 20.0),
    }
    made.terms = [known[kind] for kind in kinds]
    return made


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array, dtype=np.float32))
    return file.getvalue()


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    """A shard by hand: key -> member name -> bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples.items():
            for name, content in members.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def world(n: int = 24, seed: int = 0, noise: float = 0.3, group: bool = False) -> dict[str, dict[str, bytes]]:
    """n samples of the six classes; sample 3 has no audio, sample 4 no image, sample 5 no label and two captions."""
    rng = np.random.default_rng(seed)
    samples = {}
    for i in range(n):
        c = i % len(classes)
        about = {"label": {"kind": classes[c], "half": int(c >= 3)}}
        if group:
            about["group"] = classes[c]
        members = {
            "image.npy": npy(np.eye(D)[c] + noise * rng.normal(size=D)),
            "audio.npy": npy(np.eye(D)[c] + noise * rng.normal(size=D)),
            "text.txt": f"a {classes[c]} {'bcdefghi'[rng.integers(8)]}".encode(),
            "json": json.dumps(about).encode(),
        }
        if i == 3:
            del members["audio.npy"]
        if i == 4:
            del members["image.npy"]
        if i == 5:
            members["json"] = b"{}"
            members["text.txt"] = b"fff\nggg"
        samples[f"{i:04d}"] = members
    return samples

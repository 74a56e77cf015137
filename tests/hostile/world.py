"""A server of the tests' small world, for a process of its own that prints its address.

Its bounds and deadlines are short, so that hostile requests end within seconds.
"""

from __future__ import annotations

from pathlib import Path

import served
import torch
from served import make_index
from torch import nn

import align
from align.commands.serve import run
from align.model import JointModel, Tower
from align.preprocess import Video
from align.serve.limits import Limits
from align.serve.loading import Place
from align.serve.server import bind
from align.values import Features

LIMITS = Limits(
    body=4 << 20,
    bodies=16 << 20,
    form=1 << 18,
    head_seconds=2.0,
    body_seconds=2.0,
    send_seconds=1.0,
    decode_seconds=4.0,
    decode_memory=512 << 20,
    decoders=1,
    connections=64,
    drain_seconds=5.0,
)
ALLOW = ("served", "tiny_space", "hostile")


class Frames(nn.Module):
    """An encoder of videos: the mean red, green and blue of all frames, then zeros."""

    def __init__(self, width: int = served.D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        pixels, mask = values["values"], values["mask"]
        colours = (pixels.mean(dim=(3, 4)) * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return Features(nn.functional.pad(colours, (0, self.width - 3)) * self.gain)


def world() -> JointModel:
    """The tests' model with a tower of videos."""
    small = served.model()
    video = Tower(Video(frames=2, size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), Frames(), served.Pass)
    made = JointModel({**dict(small.towers.items()), "video": video}, served.D).eval()
    made.terms = small.terms
    return made


def main(folder: Path) -> int:
    """Write the world, and serve it until a signal comes."""
    torch.set_num_threads(1)
    made = world()
    align.save(made, folder / "tiny")
    make_index(folder, made).close()
    sock = bind("127.0.0.1", 0)
    place = Place(str(folder / "index"), allow=ALLOW, device="cpu")
    return run(place, place.open(LIMITS), LIMITS, sock, [])

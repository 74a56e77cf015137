"""ImageBind's reference beside ours: other seeds, and the effect of each tensor. ``imagebind.py --compare`` runs it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from fill import draw
from proof import measure
from torch import Tensor

from align.published import load_published

golden = sys.modules["__main__"]
OURS = {"vision": "image", "video": "image"}
"""Name in the reference, or video -> the tower."""
NOISE = 1.8e-6
"""Of float32, relative to the largest value: the most that was seen for this model."""


def compare(model) -> None:
    """Print the worst differences of seeds 0 to 4, and the least effects of tensors."""
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    for seed in range(5):
        state = golden.make_state(shapes, seed)
        model.load_state_dict(state)
        given = golden.make_inputs(seed)
        theirs, ours = golden.run(model, given), load(state)
        for name, x in given.items():
            found = measure(embed(ours, name, x), theirs[name])
            print(f"seed {seed} {name}: {found}")
    move(golden.make_state(shapes), golden.make_inputs())


def load(state: dict[str, Tensor]):
    """Return our model of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "imagebind.pth")
        return load_published("imagebind", f"{folder}/imagebind.pth")


@torch.no_grad()
def embed(model, name: str, x: Tensor) -> Tensor:
    encoder = model.towers[OURS.get(name, name)].encoder
    return encoder.scale * encoder(x).pooled


@torch.no_grad()
def move(state: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Print how far another fill of a tensor moves the output at most, relative to its largest value."""
    model = load(state)
    given = {name: x for name, x in given.items() if name != "video"}
    for name, x in given.items():
        encoder = model.towers[OURS.get(name, name)].encoder
        effects = sorted(effects_of(encoder, lambda e=encoder, x=x: e(x).pooled))
        for moved, part in effects[:5]:
            print(f"{name}: {part} {moved:.1e}{'' if moved >= 10 * NOISE else '  BELOW TEN TIMES THE NOISE'}")


def effects_of(encoder, read: Callable[[], Tensor]):
    """Yield (effect, name) of each tensor, and of the parts of query, key and value apart."""
    before, generator = read(), torch.Generator().manual_seed(99)
    for name, x in encoder.named_parameters():
        kept, other = x.clone(), draw(name, x, generator)
        parts = ("query", "key", "value") if "qkv" in name else ("",)
        for part, into, new in zip(parts, x.chunk(len(parts)), other.chunk(len(parts)), strict=True):
            into.copy_(new)
            yield float((read() - before).abs().max() / before.abs().max()), f"{name} {part}".strip()
            x.copy_(kept)

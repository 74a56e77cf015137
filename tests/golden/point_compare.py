"""Figures of a point tower beside its reference: worst differences on other seeds, and the effect of every tensor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import proof
import torch
import torch.nn.functional as F
from fill import draw
from point_towers import Shapes, fill_tower, make_clouds
from torch import Tensor

from align.published import load_published

NOISE = 1.8e-6  # of a tower's vectors, relative, the largest that was seen of any layout


def report(
    layout: str,
    kind: str,
    shapes: Shapes,
    theirs: Callable[[dict[str, Tensor], list[np.ndarray]], Tensor],
    save: Callable[[dict[str, Tensor], Path], Path],
    seeds: tuple[int, ...] = (1, 2, 3),
    effects: bool = True,
) -> None:
    """Print figures. theirs: tensors, clouds -> the reference's vectors. save: tensors, file -> the published file.

    effects: of single tensors, too, which runs the reference for each.
    """
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            clouds, tensors = make_clouds(seed), fill_tower(shapes, seed)
            model = load_published(layout, str(save(tensors, Path(folder) / "model.pt")))
            print(f"{layout} {kind}, seed {seed}: {compare(model, theirs(tensors, clouds), clouds)}")
    if effects:
        print_effects(f"{layout} {kind}", tensors, theirs, make_clouds(0, 1500)[1:3])


def compare(model, theirs: Tensor, clouds: list[np.ndarray]) -> proof.Figures:
    """Return the figures of unit vectors."""
    return proof.measure(model.embed(points=clouds)["points"], F.normalize(theirs, dim=-1))


def print_effects(
    name: str,
    tensors: Mapping[str, Tensor],
    theirs: Callable[[dict[str, Tensor], list[np.ndarray]], Tensor],
    clouds: list[np.ndarray],
) -> None:
    """Print the smallest effects of another fill of one tensor on the reference's vectors, relative to their length."""
    before, found = theirs(dict(tensors), clouds), {}
    generator = torch.Generator().manual_seed(99)
    for key, x in tensors.items():
        if key.endswith(("num_batches_tracked", "logit_scale")):
            continue
        other = theirs({**tensors, key: draw(key, x, generator)}, clouds)
        found[key] = float((other - before).norm() / before.norm())
    smallest = sorted(found, key=found.__getitem__)[:4]
    print(f"{name}: smallest effects {', '.join(f'{key} {found[key]:.1e}' for key in smallest)}")
    if still := [key for key, moved in found.items() if moved < 10 * NOISE]:
        print(f"{name}: move nothing: {', '.join(still)}")

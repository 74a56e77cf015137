"""Scenes: two to four solids on one floor, the place of each, and the words about them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from align.quickstart.world import Solid, caption, combinations

SHRINK = 0.45  # size of a solid in a scene, of its size alone
SPREAD = 0.82  # how far to the left and right the outer solids stand
NUMBERS = {2: "two", 3: "three", 4: "four"}
SIDES = {
    2: ("on the left", "on the right"),
    3: ("on the left", "in the middle", "on the right"),
    4: ("on the far left", "left of the middle", "right of the middle", "on the far right"),
}


class Scene(NamedTuple):
    """Solids from left to right, and their places on the floor."""

    solids: tuple[Solid, ...]
    places: np.ndarray  # (solids, 2): to the right, and away from the camera
    seed: tuple[int, ...]

    def generator(self, face: int) -> np.random.Generator:
        """Return the random numbers of one face: 1 image, 2 points, 4 text."""
        return np.random.default_rng([*self.seed, face])

    @property
    def label(self) -> dict[str, list[str]]:
        """Attribute -> the values in the scene, each one time."""
        stated = [solid.label for solid in self.solids]
        return {name: sorted({each[name] for each in stated}) for name in stated[0]}


def draw_scenes(split: str, n: int, seed: int = 0) -> list[Scene]:
    """Return n scenes of a split. Each of its solids has a combination of parameters that only this split has.

    No two solids of a scene share shape and color, so that these two words name one of them. Raises ValueError for
    another split than "train" and "test", and for numbers below 0.
    """
    if n < 0 or seed < 0:
        raise ValueError(f"n and seed must not be negative, got n={n} and seed={seed}")
    deck = combinations(split)
    which = ("train", "test").index(split)
    return [_draw(deck, (seed, which, i, 77)) for i in range(n)]


def _draw(deck: list[Solid], seed: tuple[int, ...]) -> Scene:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    solids: list[Solid] = []
    while len(solids) < count:
        solid = deck[rng.integers(len(deck))]
        if (solid.shape, solid.color) not in [(s.shape, s.color) for s in solids]:
            solids.append(solid._replace(seed=(*seed, len(solids))))
    x = np.linspace(-SPREAD, SPREAD, count) + rng.uniform(-0.08, 0.08, count)
    back = (np.arange(count) + rng.integers(2)) % 2  # neighbours stand in front and behind by turns
    y = np.where(back, 0.45, -0.45) + rng.uniform(-0.12, 0.12, count)
    return Scene(tuple(solids), np.stack([x, y], 1), seed)


def phrases(scene: Scene) -> list[str]:
    """Return a caption of each solid, from left to right, that says all four of its parameters."""
    rng = scene.generator(4)
    return [caption(solid, rng) for solid in scene.solids]


def short_caption(scene: Scene, rng: np.random.Generator, *, colors: bool = True) -> str:
    """Return a caption of the whole: shapes, with their colors or without, in any order."""
    order = rng.permutation(len(scene.solids))
    named = [(f"{s.color} {s.shape}" if colors else s.shape) for s in (scene.solids[i] for i in order)]
    words = [f"an {name}" if name[0] in "o" else f"a {name}" for name in named]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def captions(scene: Scene, *, train: bool) -> list[str]:
    """Return captions of the whole: one with colors, and in train a second, which has none half of the time."""
    rng = scene.generator(5)
    lines = [short_caption(scene, rng)]
    return [*lines, short_caption(scene, rng, colors=bool(rng.random() < 0.5))] if train else lines


def long_caption(scene: Scene) -> str:
    """Return a sentence of the number of solids, and a sentence of each with its side and all four parameters."""
    sides = SIDES[len(scene.solids)]
    parts = [
        f"{side} stands a {s.size} {s.shape} made of {s.color} {s.material}"
        for side, s in zip(sides, scene.solids, strict=True)
    ]
    return " . ".join([f"a picture of {NUMBERS[len(scene.solids)]} objects", *parts])

"""The world: the parameters of its solids, the combinations kept for the test, and the captions."""

from __future__ import annotations

import zlib
from itertools import product
from typing import NamedTuple

import numpy as np

SHAPES = (
    "cube",
    "sphere",
    "cone",
    "torus",
    "capsule",
    "tube",
    "star",
    "octahedron",
    "spring",
    "cross",
)
MATERIALS = ("metal", "wood", "glass", "rubber", "stone", "plastic", "ceramic")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SIZES = ("small", "medium", "large")

ATTRIBUTES: dict[str, list[str]] = {
    "shape": list(SHAPES),
    "material": list(MATERIALS),
    "color": list(COLORS),
    "size": list(SIZES),
}
"""Attribute -> its values, in the order of ``manifest.json``."""

TEMPLATES: dict[str, list[str]] = {
    "shape": ["a {}", "the {}", "{}"],
    "material": ["something {}", "a {} object", "{}"],
    "color": ["something {}", "a {} object", "{}"],
    "size": ["something {}", "a {} object", "{}"],
}
"""The prompts that ask for one attribute, as partial captions say it."""

FULL = (
    "a {size} {color} {material} {shape}",
    "{size} {color} {material} {shape}",
    "a {size} {shape} made of {color} {material}",
    "there is a {shape} made of {color} {material}, {size}",
    "this {shape} is {size}, {color} and {material}",
    "a {color} {shape}, {size}, {material}",
)
PARTIAL = (  # captions of one attribute, of two, of three
    (
        ("a {shape}", "the {shape}", "{shape}"),
        ("something {material}", "a {material} object", "{material}"),
        ("something {color}", "a {color} object", "{color}"),
        ("something {size}", "a {size} object", "{size}"),
    ),
    (
        ("a {material} {shape}", "a {shape} made of {material}"),
        ("a {color} {shape}", "{color} {shape}"),
        ("a {size} {shape}", "{size} {shape}"),
        ("something {size} and {color}", "a {size} {color} object"),
        ("something {color} and {material}", "a {color} {material} object"),
        ("something {size} and {material}", "a {size} {material} object"),
    ),
    (
        ("a {color} {material} {shape}", "a {shape} made of {color} {material}"),
        ("a {size} {material} {shape}", "a {size} {shape} made of {material}"),
        ("a {size} {color} {shape}", "a {color} {shape}, {size}"),
        ("a {size} {color} {material} object", "something {size}, {color} and {material}"),
    ),
)
SAYS = (0.7, 0.15, 0.15)  # how often a partial caption says one, two, three of the parameters
SCALE = {"small": 0.70, "medium": 0.84, "large": 0.98}  # of the unit solids in shapes.py


class Body(NamedTuple):
    """Scale and grain of a solid. The seed adds them to the parameters, and every face shares them."""

    scale: float  # world units: that of the size, within 3 %
    offset: np.ndarray  # (3,) where in the material's grain this solid was cut


class Solid(NamedTuple):
    """One object: four parameters that a caption can say, and the seed of everything that it cannot."""

    shape: str
    material: str
    color: str
    size: str
    seed: tuple[int, ...] = (0,)

    @property
    def label(self) -> dict[str, str]:
        """Attribute -> value."""
        return {"shape": self.shape, "material": self.material, "color": self.color, "size": self.size}

    @property
    def group(self) -> str:
        """The caption parameters in one string: solids of one group are hits for each other, never negatives."""
        return f"{self.size} {self.color} {self.material} {self.shape}"

    def generator(self, face: int) -> np.random.Generator:
        """Return the random numbers of one face: 0 body, 1 image, 2 points, 3 sound, 4 text."""
        return np.random.default_rng([*self.seed, face])

    def body(self) -> Body:
        """Return scale and grain, the same for every face."""
        rng = self.generator(0)
        scale = SCALE[self.size] * float(rng.uniform(0.97, 1.03))
        return Body(scale, rng.uniform(-40, 40, 3).astype(np.float32))


def is_held_out(solid: Solid) -> bool:
    """Return True for a combination of parameters that is kept for the test: one in six, by the CRC-32 of its name.

    The choice does not depend on the seed, so no world trains on a combination that another one tests.
    """
    return zlib.crc32(solid.group.encode()) % 6 == 0


def combinations(split: str) -> list[Solid]:
    """Return every combination of parameters of a split. "test" has the held-out ones, "train" the others."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    every = (Solid(*parameters) for parameters in product(SHAPES, MATERIALS, COLORS, SIZES))
    return [solid for solid in every if is_held_out(solid) == (split == "test")]


def draw(split: str, n: int, seed: int = 0) -> list[Solid]:
    """Return n solids of a split: its combinations in a random order, again and again, each with another seed."""
    if n < 0 or seed < 0:
        raise ValueError(f"n and seed must not be negative, got n={n} and seed={seed}")
    deck = combinations(split)
    which = ("train", "test").index(split)
    rng = np.random.default_rng([seed, which])
    rounds = [rng.permutation(len(deck)) for _ in range(-(-n // len(deck)))]
    order = np.concatenate(rounds)[:n].tolist() if rounds else []
    return [deck[j]._replace(seed=(seed, which, i)) for i, j in enumerate(order)]


def caption(solid: Solid, rng: np.random.Generator, *, partial: bool = False) -> str:
    """Return one caption of a solid. A partial one leaves out one to three of the four parameters."""
    if partial:
        kind = PARTIAL[rng.choice(3, p=SAYS)]
        templates = kind[rng.integers(len(kind))]
    else:
        templates = FULL
    words = solid.label
    if solid.material == "wood" and rng.random() < 0.5:
        words["material"] = "wooden"
    text = templates[rng.integers(len(templates))].format(**words)
    return text.replace("a o", "an o") if text.startswith("a o") else text.replace(" a o", " an o")


def captions(solid: Solid, *, train: bool) -> list[str]:
    """Return the lines of a solid's text member: in the test a full caption, in train a second caption too.

    Two thirds of the second captions are partial, so that a third of all captions are.
    """
    rng = solid.generator(4)
    lines = [caption(solid, rng)]
    return [*lines, caption(solid, rng, partial=bool(rng.random() < 2 / 3))] if train else lines

"""A modality of your own: the quickstart's objects, shaken by a hand, as series of accelerations (3, 256).

python notebooks/shaken.py shards/shaken    # writes train (picture and series) and test (words, picture and series)
"""

import io
import json
import sys

import numpy as np

from align.data import ShardWriter
from align.quickstart.render import picture
from align.quickstart.world import ATTRIBUTES, SCALE, SHAPES, Solid, captions, draw

DENSITY = {"metal": 7.8, "wood": 0.7, "glass": 2.5, "rubber": 1.2, "stone": 2.7, "plastic": 1.0, "ceramic": 2.2}
DAMPING = {"metal": 0.4, "wood": 3.0, "glass": 0.8, "rubber": 9.0, "stone": 1.5, "plastic": 5.0, "ceramic": 1.1}
SECONDS = np.arange(256) / 100  # 100 Hz


def shake(solid: Solid) -> np.ndarray:
    """Return (3, 256) float32, g: the spring of the hand, the ringing of the material, the roll of the shape."""
    rng = solid.generator(5)  # the faces 0 to 4 are body, image, points, sound and text
    mass = DENSITY[solid.material] * SCALE[solid.size] ** 3
    start, phase = rng.uniform(0.1, 0.4), rng.uniform(0, 2 * np.pi, 3)
    hand = np.sin(2 * np.pi * 6 / np.sqrt(mass) * SECONDS + phase[0])
    after = np.clip(SECONDS - start, 0, None)
    ring = np.exp(-DAMPING[solid.material] * after) * np.sin(2 * np.pi * 22 * after / SCALE[solid.size]) * (after > 0)
    k = SHAPES.index(solid.shape)
    turn = 2 * np.pi * (1.0 + 0.3 * (k % 5)) * SECONDS + phase[1]  # a shape rolls at its rate, over its edges
    roll = np.sin(turn) + 0.6 * np.sign(np.sin((2 + k // 5 * 3) * turn)) / (1 + k % 3)
    return (np.stack([hand, ring, roll]) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.1, (3, 256))).astype(np.float32)


def write(folder: str, train: int = 3000, test: int = 500) -> None:
    for split, n in (("train", train), ("test", test)):
        with ShardWriter(folder, split, classes=ATTRIBUTES, licence="CC0-1.0") as shards:
            for i, solid in enumerate(draw(split, n, seed=1)):
                np.save(content := io.BytesIO(), shake(solid))
                sample = {"image.png": picture(solid), "series.npy": content.getvalue()}
                if split == "test":  # no pair of words and series is ever trained
                    sample["text.txt"] = "\n".join(captions(solid, train=False)).encode()
                about = json.dumps({"label": solid.label, "group": solid.group})
                shards.write(f"{split}-{i:06d}", sample | {"json": about.encode()})


if __name__ == "__main__":
    write(*sys.argv[1:2], *map(int, sys.argv[2:]))

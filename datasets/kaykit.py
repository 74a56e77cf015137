"""KayKit Restaurant Bits: low-poly kitchen objects as coloured point clouds with captions.

    python datasets/kaykit.py shards/kaykit

One sample a cloud: ``points.npy`` (1024, 6) float16, points drawn uniformly by area from the surface, in the pack's own
units, z up (the files have y up), with the texture's colour; ``text.txt`` with two captions made from the file's name
(``bowl_dirty``: "bowl dirty" and "a dirty bowl", one row each); ``json`` with ``label: {object: bowl dirty, kind:
bowl}`` and ``group``: the object. Every fifth name in sorted order is the test split, one cloud each; of every other
object ``--clouds`` are drawn, by seed. So the names of the test split are unseen, though most of their words are not.

  what      150 objects, Wavefront obj + mtl and one texture, 5.8 MB
  licence   CC0 1.0
  cite      Kay Lousberg, KayKit: Restaurant Bits (1.0), www.kaylousberg.com
  from      https://github.com/KayKit-Game-Assets/KayKit-Restaurant-Bits-1.0, commit 153c8a7
  layout    that repository: addons/kaykit_restaurant_bits/Assets/obj/{name}.obj, {name}.mtl, restaurantbits_texture.png
  checksum  none is published, and GitHub packs the archive on request. What is checked is a sha256 over the names and
            contents of the folder's 301 files, computed from a clone of that commit
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from archives import unpack_checked
from recipe import Samples, a_or_an, about, cloud, parser, run, text, write

from align.media.shapes.mesh import sample_mesh

POINTS = 1024
URL = "https://github.com/KayKit-Game-Assets/KayKit-Restaurant-Bits-1.0/archive/153c8a7535b48237854cb54ff6890679f8c574d1.zip"
INSIDE = "/addons/kaykit_restaurant_bits/Assets/obj/"
DIGEST = "b1145ba743a49664319e9644c5e8aa9583f29583905677e48310e74f5bb8269a"

COMPOUNDS = {  # words that the file names run together
    "cuttingboard": "cutting board",
    "dishrack": "dish rack",
    "extractorhood": "extractor hood",
    "innercorner": "inner corner",
    "kitchencabinet": "kitchen cabinet",
    "kitchencounter": "kitchen counter",
    "kitchentable": "kitchen table",
    "orderwindow": "order window",
    "outercorner": "outer corner",
    "papertowel": "paper towel",
    "towelrail": "towel rail",
    "vegetableburger": "vegetable burger",
}
ADJECTIVES = ["chopped", "closed", "cooked", "decorated", "dirty", "half", "large", "mashed", "medium", "multi", "open"]
ADJECTIVES += ["round", "single", "small", "straight", "uncooked"]


def fetch(folder: Path) -> None:
    """Download the objects into ``folder`` unless it has some. OSError or ValueError (one line) where that fails."""
    if not any(folder.glob("*.obj")):
        unpack_checked(URL, folder.with_name("kaykit.zip"), folder, inside=INSIDE, expected=DIGEST)


def words(name: str) -> list[str]:
    """``food_ingredient_burger_cooked`` -> burger, cooked; ``kitchentable_B`` -> kitchen table, b."""
    parts = [p.lower() for p in name.split("_") if p not in ("food", "ingredient")]
    return [COMPOUNDS.get(p, p) for p in parts]


def caption(name: str) -> str:
    """``jar_A_large`` -> a large jar; the letters and numbers of variants are left out."""
    found = [w for w in words(name) if len(w) > 1 and not w.isdigit()]
    said = " ".join(sorted(found, key=lambda w: w not in ADJECTIVES))  # stable: adjectives first, the rest as it was
    return said if said.endswith("s") else a_or_an(said)


def clouds(path: Path, n: int, seed: int) -> np.ndarray:
    """(n, POINTS, 6): xyz as the file has it, rgb in [0, 1] from the texture; each uniform by area."""
    points = np.random.default_rng(seed).permutation(sample_mesh(path, n * POINTS, seed))
    return points.reshape(n, POINTS, 6)


def samples(paths: Sequence[Path], chosen: Sequence[int], n: int, seed: int) -> Samples:
    """n clouds of each object whose number is chosen."""
    for i in chosen:
        name, said = paths[i].stem, words(paths[i].stem)
        object_name = " ".join(said)
        drawn = int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
        known = about({"label": {"object": object_name, "kind": said[0]}, "group": i})
        for k, points in enumerate(clouds(paths[i], n, drawn)):
            members = cloud(points[:, :3], points[:, 3:], y_up=True) | text([object_name, caption(name)]) | known
            yield f"{name}_{k:03d}", members


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "kaykit/; it is downloaded where it is missing")
    made.add_argument("--clouds", type=int, default=16, help="clouds of each training object (default: 16)")
    args = made.parse_args(arguments)

    def work() -> None:
        fetch(args.source / "kaykit")
        paths = sorted((args.source / "kaykit").glob("*.obj"), key=lambda path: path.stem)
        names = [words(path.stem) for path in paths]
        classes = {"object": [" ".join(name) for name in names], "kind": sorted({name[0] for name in names})}
        for split, n in [("train", args.clouds), ("test", 1)]:
            chosen = [i for i in range(len(paths)) if (i % 5 == 4) == (split == "test")]
            write(args.out, split, samples(paths, chosen, n, args.seed), classes=classes, licence="CC0 1.0")

    return run("kaykit.py", work)


if __name__ == "__main__":
    sys.exit(main())

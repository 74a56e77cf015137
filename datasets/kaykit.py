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

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np

from align.data import ShardWriter
from align.files import download
from align.preprocess.mesh import sample_mesh
from align.values import BadSample

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
    """Download the objects into ``folder`` unless it has some. OSError (one line) where that fails."""
    if not any(folder.glob("*.obj")):
        unpack(download(URL, folder.parent / "kaykit.zip"), INSIDE, folder, DIGEST)


def digest(files: dict[str, bytes]) -> str:
    """sha256 over names and contents, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def unpack(archive: Path, inside: str, folder: Path, expected: str) -> None:
    """Write the files below ``inside`` in a zip to ``folder``, all or none; ValueError if their digest differs."""
    with zipfile.ZipFile(archive) as pack:
        files = {n.split(inside, 1)[1]: pack.read(n) for n in pack.namelist() if inside in n and not n.endswith("/")}
    if digest(files) != expected:
        raise ValueError(
            f"{archive}: its {len(files)} files under {inside} have digest {digest(files)}, not {expected}"
        )
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / Path(name).name).write_bytes(content)
    if folder.exists():
        folder.rmdir()  # it has no object; whatever else lies in it is not ours to delete
    partial.rename(folder)
    archive.unlink()


def words(name: str) -> list[str]:
    """``food_ingredient_burger_cooked`` -> burger, cooked; ``kitchentable_B`` -> kitchen table, b."""
    parts = [p.lower() for p in name.split("_") if p not in ("food", "ingredient")]
    return [COMPOUNDS.get(p, p) for p in parts]


def caption(name: str) -> str:
    """``jar_A_large`` -> a large jar; the letters and numbers of variants are left out."""
    found = [w for w in words(name) if len(w) > 1 and not w.isdigit()]
    text = " ".join(sorted(found, key=lambda w: w not in ADJECTIVES))  # stable: adjectives first, the rest as it was
    if text.endswith("s"):
        return text
    return ("an " if text[0] in "aeiou" else "a ") + text


def clouds(path: Path, n: int, seed: int) -> np.ndarray:
    """(n, POINTS, 6) float16: xyz with z up, rgb in [0, 1] from the texture; each uniform by area."""
    points = np.random.default_rng(seed).permutation(sample_mesh(path, n * POINTS, seed))
    x, y, z, *rgb = points.T
    return np.stack([x, -z, y, *rgb], axis=1).reshape(n, POINTS, 6).astype(np.float16)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="KayKit Restaurant Bits -> shards (see the top of this file).")
    parser.add_argument("out", type=Path, help="folder to write train-*.tar, test-*.tar and manifest.json to")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path(os.environ.get("ALIGN_DATA", "data")),
        help="folder with kaykit/; what is missing is downloaded into it (default: $ALIGN_DATA, else data)",
    )
    parser.add_argument("--clouds", type=int, default=16, help="clouds of each training object (default: 16)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        fetch(args.source / "kaykit")
        paths = sorted((args.source / "kaykit").glob("*.obj"), key=lambda path: path.stem)
        objects = [" ".join(words(path.stem)) for path in paths]
        classes = {"object": objects, "kind": sorted({words(path.stem)[0] for path in paths})}
        for split in ("train", "test"):
            chosen = [i for i in range(len(paths)) if (i % 5 == 4) == (split == "test")]
            n = args.clouds if split == "train" else 1
            with ShardWriter(args.out, split, classes=classes, licence="CC0 1.0") as writer:
                for i in chosen:
                    name = paths[i].stem
                    label = {"object": objects[i], "kind": words(name)[0]}
                    seed = int(np.random.SeedSequence([args.seed, i]).generate_state(1)[0])
                    for k, points in enumerate(clouds(paths[i], n, seed)):
                        array = io.BytesIO()
                        np.save(array, points)
                        writer.write(
                            f"{name}_{k:03d}",
                            {
                                "points.npy": array.getvalue(),
                                "text.txt": f"{objects[i]}\n{caption(name)}".encode(),
                                "json": json.dumps({"label": label, "group": i}).encode(),
                            },
                        )
            print(f"{args.out}: {len(chosen) * n} {split} samples of {len(chosen)} objects")
    except (OSError, ValueError, zipfile.BadZipFile, BadSample) as error:
        print(f"kaykit.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

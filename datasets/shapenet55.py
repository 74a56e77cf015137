"""ShapeNet55: clean CAD models of 55 kinds of things, as clouds of 8,192 points.

    python datasets/shapenet55.py shards/shapenet55 --source DIR

One sample a model: ``points.npy`` (8192, 3) float16, z up (the files have y up), ``text.txt`` (its class, one row) and
``json`` with ``label: {object: trash bin}``, ``group``: the class, and ShapeNet's two ids. Splits as in Point-BERT.

  what      52,470 models, 55 classes, 41,952 train and 10,518 test
  licence   ShapeNet's terms of use: non-commercial research and education
  cite      A. X. Chang et al. ShapeNet: An Information-Rich 3D Model Repository. 2015.
            X. Yu et al. PoinTr: Diverse Point Cloud Completion with Geometry-Aware Transformers. ICCV 2021: its
            clouds.
  from      cannot be downloaded by a program: the drives that Point-BERT's DATASET.md links; unpack into
            DIR/ShapeNet55-34
  layout    https://github.com/Julie-tang00/Point-BERT, DATASET.md and datasets/ShapeNet55Dataset.py:
            shapenet_pc/{synset}-{model}.npy and ShapeNet-55/{train,test}.txt, a file's name a line. ULIP reads the
            same. Names of the classes: data/shapenet_synset_dict.json there
  checksum  none is published
"""

from __future__ import annotations

import sys
from pathlib import Path

from recipe import Samples, about, cloud, parser, plain, run, text, there, write

from align.media.npy import read_npy
from align.values import BadSample

NAMES = """
02691156 airplane, 02747177 trash bin, 02773838 bag, 02801938 basket, 02808440 bathtub, 02818832 bed, 02828884 bench,
02843684 birdhouse, 02871439 bookshelf, 02876657 bottle, 02880940 bowl, 02924116 bus, 02933112 cabinet, 02942699 camera,
02946921 can, 02954340 cap, 02958343 car, 02992529 cellphone, 03001627 chair, 03046257 clock, 03085013 keyboard,
03207941 dishwasher, 03211117 display, 03261776 earphone, 03325088 faucet, 03337140 file cabinet, 03467517 guitar,
03513137 helmet, 03593526 jar, 03624134 knife, 03636649 lamp, 03642806 laptop, 03691459 loudspeaker, 03710193 mailbox,
03759954 microphone, 03761084 microwaves, 03790512 motorbike, 03797390 mug, 03928116 piano, 03938244 pillow,
03948459 pistol, 03991062 flowerpot, 04004475 printer, 04074963 remote, 04090263 rifle, 04099429 rocket,
04225987 skateboard, 04256520 sofa, 04330267 stove, 04379243 table, 04401088 telephone, 04460130 tower, 04468005 train,
04530566 watercraft, 04554684 washer"""
CLASSES = {entry.split()[0]: " ".join(entry.split()[1:]) for entry in NAMES.split(",")}


def models(folder: Path, listed: Path) -> Samples:
    """The samples of a list of files."""
    for line in listed.read_text().split():
        synset, _, model = line.removesuffix(".npy").partition("-")
        if synset not in CLASSES:
            raise ValueError(f"{listed}: {line} is of none of the 55 classes")
        path = there(folder / line, f"{listed} names it; unpack the archive again")
        try:
            with open(path, "rb") as file:
                xyz = read_npy(file, "points", limit=1_000_000)
        except BadSample as error:
            raise ValueError(f"{path}: {error}") from None
        name = CLASSES[synset]
        group = list(CLASSES).index(synset)
        said = about({"label": {"object": name}, "group": group, "synset": synset, "model": model})
        yield plain(f"{synset}-{model}"), cloud(xyz, y_up=True) | text([name]) | said


def main(arguments: list[str] | None = None) -> int:
    args = parser(__doc__, "ShapeNet55-34/shapenet_pc and ShapeNet55-34/ShapeNet-55").parse_args(arguments)

    def work() -> None:
        folder = args.source / "ShapeNet55-34"
        remedy = "https://github.com/Julie-tang00/Point-BERT (DATASET.md) links the archive; unpack it there"
        clouds = there(folder / "shapenet_pc", remedy)
        for split in ("train", "test"):
            listed = there(folder / "ShapeNet-55" / f"{split}.txt", remedy)
            classes = {"object": list(CLASSES.values())}
            licence = "ShapeNet's terms of use: non-commercial research and education"
            write(args.out, split, models(clouds, listed), classes=classes, licence=licence)

    return run("shapenet55.py", work)


if __name__ == "__main__":
    sys.exit(main())

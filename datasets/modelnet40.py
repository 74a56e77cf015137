"""ModelNet40: clean CAD models of forty kinds of things, as clouds of points.

    python datasets/modelnet40.py shards/modelnet40
    python datasets/modelnet40.py shards/modelnet40_resampled --layout resampled --source DIR
    python datasets/modelnet40.py shards/modelnet40_openshape --layout openshape --source DIR

One sample a model: ``points.npy`` (P, 3), z up, ``text.txt`` (its class, one row) and ``json`` with ``label: {object:
night stand}`` and ``group``: the class. Three layouts of the same set, with the same official splits:

* ``off`` (the default): the meshes as Princeton publishes them. ``--points`` points are drawn uniformly by area, by
  seed; float32 in the models' own units, z up as the meshes have it.
* ``resampled``: 10,000 points that the authors of PointNet++ drew by area, in the unit sphere; their y-up is turned to
  z-up and normals are left out. float16.
* ``openshape``: the test split as OpenShape and Uni3D classify it without training, (10000, 6) with their constant
  grey, y-up turned to z-up. float16. The file is a pickle, of which only numpy arrays are let through.

  what      12,311 models, 40 classes, 9,843 train and 2,468 test; 2 GB of meshes
  licence   academic research only; copyright of each model is its author's (modelnet.cs.princeton.edu)
  cite      Z. Wu et al. 3D ShapeNets: A Deep Representation for Volumetric Shapes. CVPR 2015.
  from      off: http://modelnet.cs.princeton.edu/ModelNet40.zip, downloaded where it is missing. resampled:
            https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip into DIR. openshape: meta_data.zip of
            https://huggingface.co/datasets/OpenShape/openshape-training-data into DIR, which gives DIR/meta_data, or
            Uni3D's test_datasets.zip (https://huggingface.co/BAAI/Uni3D), which gives DIR/uni3d_data
  layout    off: https://modelnet.cs.princeton.edu, ModelNet40/{class}/{train,test}/{class}_{number}.off. resampled:
            Point-BERT's DATASET.md and datasets/ModelNetDataset.py: modelnet40_normal_resampled/ with
            modelnet40_shape_names.txt, modelnet40_{train,test}.txt and {class}/{class}_{number}.txt, x,y,z,nx,ny,nz a
            line. openshape: its README and src/data.py: modelnet40/test_split.json [{name, category}] and test_pc.npy
            [{xyz, rgb in 0..255}]; Uni3D's data/datasets.py reads the same two
  checksum  off: sha256, as several public loaders list it (checked). The others publish none
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from archives import unpacked
from npy_objects import handed_on, load_objects
from recipe import Samples, about, cloud, parser, plain, records, run, text, there, write

from align.media.shapes.mesh import sample_mesh

URL = "http://modelnet.cs.princeton.edu/ModelNet40.zip"
SHA256 = "42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac"
LICENCE = "academic research only; each model its author's"


def said(name: str, classes: list[str]) -> dict[str, bytes]:
    """Text and json of a model of one of the classes."""
    plain_name = name.replace("_", " ")
    return text([plain_name]) | about({"label": {"object": plain_name}, "group": classes.index(name)})


def names(classes: list[str]) -> dict[str, list[str]]:
    return {"object": [name.replace("_", " ") for name in classes]}


def meshes(files: list[Path], classes: list[str], points: int, seed: int) -> Samples:
    """The samples of .off files."""
    for number, path in enumerate(files):
        drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        xyz = sample_mesh(path, points, drawn)[:, :3]
        yield plain(path.stem), cloud(xyz, y_up=False, dtype=np.float32) | said(path.parent.parent.name, classes)


def off(source: Path, out: Path, points: int, seed: int) -> None:
    """Princeton's meshes."""
    folder = source / "ModelNet40"
    if not folder.is_dir():
        unpacked(URL, source / "ModelNet40.zip", folder, inside="ModelNet40", sha256=SHA256)
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for split in ("train", "test"):
        files = sorted(folder.glob(f"*/{split}/*.off"))
        write(out, split, meshes(files, classes, points, seed), classes=names(classes), licence=LICENCE)


def resampled(source: Path, out: Path) -> None:
    """The clouds of PointNet++'s authors."""
    page = "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip"
    folder = there(source / "modelnet40_normal_resampled", f"download {page} and unpack it there")
    classes = (folder / "modelnet40_shape_names.txt").read_text().split()

    def clouds(models: list[str]) -> Samples:
        for model in models:
            name = model.rpartition("_")[0]
            path = folder / name / f"{model}.txt"
            try:
                rows = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            yield plain(model), cloud(rows[:, :3], y_up=True) | said(name, classes)

    for split in ("train", "test"):
        models = (folder / f"modelnet40_{split}.txt").read_text().split()
        write(out, split, clouds(models), classes=names(classes), licence=LICENCE)


def openshape(source: Path, out: Path) -> None:
    """The test split as OpenShape and Uni3D hand it on."""
    folder = handed_on(source, "modelnet40/test_pc.npy").parent
    rows = records(folder / "test_split.json", {"name": str, "category": str})
    found = load_objects(folder / "test_pc.npy")
    if not all(isinstance(one, dict) and {"xyz", "rgb"} <= set(one) for one in found):
        raise ValueError(f"{folder / 'test_pc.npy'}: a model without xyz and rgb")
    if len(found) != len(rows):
        raise ValueError(f"{folder}: {len(found)} clouds in test_pc.npy, {len(rows)} models in test_split.json")
    classes = sorted({row["category"] for row in rows})
    samples = (
        (
            f"{i:05d}-{plain(row['name'])}",
            cloud(one["xyz"], one["rgb"] / 255, y_up=True) | said(row["category"], classes),
        )
        for i, (row, one) in enumerate(zip(rows, found, strict=True))
    )
    write(out, "test", samples, classes=names(classes), licence=LICENCE)


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "ModelNet40/, modelnet40_normal_resampled/, or what OpenShape or Uni3D hand on")
    made.add_argument("--layout", choices=["off", "resampled", "openshape"], default="off", help="(default: off)")
    made.add_argument("--points", type=int, default=4096, help="drawn from a mesh, layout off (default: 4096)")
    args = made.parse_args(arguments)

    def work() -> None:
        if args.layout == "off":
            off(args.source, args.out, args.points, args.seed)
        else:
            (resampled if args.layout == "resampled" else openshape)(args.source, args.out)

    return run("modelnet40.py", work)


if __name__ == "__main__":
    sys.exit(main())

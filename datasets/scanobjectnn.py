"""ScanObjectNN: real scans of fifteen kinds of things, as clouds of 2,048 points.

    python datasets/scanobjectnn.py shards/scanobjectnn_2890 --source DIR --variant 2890

One sample a scan: ``points.npy`` (2048, 3) float16, z up (the files have y up), ``text.txt`` (its class, one row) and
``json`` with ``label: {object: shelf}`` and ``group``: the class. Results are only comparable within a variant, so they
are named. Give each a folder of its own: ``2890`` tests on what ``581`` trains on.

* ``2890``: the objects without their background, training and test files together as one split, ``test``. Zero-shot
  results over all 2,890 objects are of this.
* ``581``: the objects without background (OBJ_ONLY) in their official split, 2,309 ``train`` and 581 ``test``.
* ``581_bg``: the same objects with what stands behind them (OBJ_BG).
* ``hardest``: PB_T50_RS, moved, turned and scaled with background, 11,416 ``train`` and 2,882 ``test``. Five scans of
  one object are five samples; the file does not say which belong together.
* ``openshape``: what OpenShape and Uni3D classify without training, from their own file, as one split ``test``.

  what      2,890 objects of 15 classes from SceneNN and ScanNet in the h5 files (the paper counts 2,902)
  licence   by the terms of use that its form asks to accept: non-commercial research
  cite      M. A. Uy et al. Revisiting Point Cloud Classification. ICCV 2019.
  from      cannot be downloaded by a program: accept the terms at https://hkust-vgd.github.io/scanobjectnn/ and unpack
            h5_files.zip into DIR (main_split/ and main_split_nobg/ lie then in DIR/h5_files). openshape: meta_data.zip
            of https://huggingface.co/datasets/OpenShape/openshape-training-data into DIR, which gives DIR/meta_data, or
            Uni3D's test_datasets.zip (https://huggingface.co/BAAI/Uni3D), which gives DIR/uni3d_data
  layout    https://github.com/hkust-vgd/scanobjectnn, README "h5 files": {training,test}_objectdataset*.h5 with data
            (n, 2048, 3), label (n,), mask; Point-BERT's ScanObjectNNDataset.py reads the same, and its
            ScanObjectNN_shape_names.txt names the labels as OpenShape's src/data.py does. openshape: that file and
            Uni3D's data/datasets.py: scanobjectnn/xyz_label.npy, a dict of xyz, label and perhaps rgb
  checksum  none is published
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from npy_objects import handed_on, load_objects
from recipe import Samples, about, cloud, parser, run, text, there, write

from align.extras import pip_install

CLASSES = ["bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow"]
CLASSES += ["sink", "sofa", "toilet"]
LICENCE = "ScanObjectNN's terms of use: non-commercial research"
VARIANTS = {  # folder, the end of the files' names
    "2890": ("main_split_nobg", "objectdataset.h5"),
    "581": ("main_split_nobg", "objectdataset.h5"),
    "581_bg": ("main_split", "objectdataset.h5"),
    "hardest": ("main_split", "objectdataset_augmentedrot_scale75.h5"),
}


def read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """data and label of an h5 file. ImportError without h5py, ValueError for other content."""
    try:
        from h5py import Dataset, File  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(f"{path}: reading HDF5 needs h5py; {pip_install('recipes')}") from None
    with File(path) as file:
        data, label = file.get("data"), file.get("label")
        if not isinstance(data, Dataset) or not isinstance(label, Dataset):
            raise ValueError(f"{path}: no data and label; it has {', '.join(file)}")
        return np.asarray(data), np.asarray(label)


def scans(key: str, xyz: np.ndarray, label: np.ndarray, rgb: np.ndarray | None = None) -> Samples:
    """The samples of (n, P, 3) clouds and their (n,) classes."""
    label = np.asarray(label).reshape(-1)
    if len(xyz) != len(label) or (len(label) and not 0 <= label.min() <= label.max() < len(CLASSES)):
        raise ValueError(f"{key}: {len(xyz)} clouds, {len(label)} labels; labels are 0 to {len(CLASSES) - 1}")
    for i, number in enumerate(label):
        name = CLASSES[int(number)]
        points = cloud(xyz[i], None if rgb is None else rgb[i], y_up=True)
        yield f"{key}{i:05d}", points | text([name]) | about({"label": {"object": name}, "group": int(number)})


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "h5_files/, or what OpenShape or Uni3D hand on")
    made.add_argument("--variant", choices=[*VARIANTS, "openshape"], default="581", help="(default: 581)")
    args = made.parse_args(arguments)
    classes = {"object": CLASSES}

    def work() -> None:
        if args.variant == "openshape":
            path = handed_on(args.source, "scanobjectnn/xyz_label.npy")
            found = load_objects(path)
            if not isinstance(found, dict) or not {"xyz", "label"} <= set(found):
                raise ValueError(f"{path}: no xyz and label")
            samples = scans("", found["xyz"], np.asarray(found["label"]), found.get("rgb"))
            write(args.out, "test", samples, classes=classes, licence=LICENCE)
            return
        folder, end = VARIANTS[args.variant]
        remedy = "accept the terms at https://hkust-vgd.github.io/scanobjectnn/ and unpack h5_files.zip there"
        paths = [there(args.source / "h5_files" / folder / f"{part}_{end}", remedy) for part in ("training", "test")]
        training, test = (scans(f"{path.name.split('_')[0]}-", *read_h5(path)) for path in paths)
        if args.variant == "2890":
            every = (sample for part in (training, test) for sample in part)
            write(args.out, "test", every, classes=classes, licence=LICENCE)
        else:
            write(args.out, "train", training, classes=classes, licence=LICENCE)
            write(args.out, "test", test, classes=classes, licence=LICENCE)

    return run("scanobjectnn.py", work)


if __name__ == "__main__":
    sys.exit(main())

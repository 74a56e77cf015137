"""Shards of CIFAR-10, ESC-10 and the digits, cut so that an experiment can leave folds and classes out by their names.

    python configs/experiments/frozen_shards.py shards/frozen

    pictures/train-dog-000000.tar       CIFAR-10, a shard a class: 400 to train on and 100 to test on
    sounds/fold1-dog_bark-000000.tar    ESC-10, a shard a fold and class, with ten wrong captions beside the right ones
    digits/train-000000.tar             MNIST, FSDD and the number word: 3,000 to train on and 600 to test on

They are what `datasets/cifar10.py`, `esc10.py` and `digits.py` write, in another cut. The wrong captions of
`deranged_0` are those of another class, the same class for all clips of one, and no class keeps its own.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))

import cifar10
import digits
import esc10
from frozen_towers import DERANGED
from recipe import Members, parser, text, write

FOLDS = (1, 2, 3, 4)


def derange(names: list[str], seed: int) -> dict[str, str]:
    """Return name -> another name. All come, none at its place."""
    draw = random.Random(f"deranged {seed}")
    other = names[:]
    while any(a == b for a, b in zip(names, other, strict=True)):
        draw.shuffle(other)
    return dict(zip(names, other, strict=True))


def wrong_captions(name: str) -> Members:
    """Return the members of the wrong captions of a class of ESC-10."""
    found = {}
    for i in range(DERANGED):
        other = derange(list(esc10.CAPTIONS), i)[name]
        found[f"deranged_{i}.txt"] = text([other, f"the sound of {esc10.CAPTIONS[other]}"])["text.txt"]
    return found


def write_pictures(source: Path, out: Path) -> None:
    for split in ("train", "test"):
        samples = sorted(cifar10.images(source / "cifar10" / split, 0))
        for name, found in itertools.groupby(samples, key=lambda sample: sample[0].split("-")[1].split("_")[0]):
            write(out, f"{split}-{name}", found, classes={"object": cifar10.CLASSES}, licence="none stated")


def write_sounds(source: Path, out: Path) -> None:
    clips = [clip for split in esc10.clips(source / "esc10").values() for clip in split]
    for fold, name in itertools.product(FOLDS, esc10.CAPTIONS):
        files = [(c, path) for c, path in clips if c == name and path.name.startswith(f"{fold}-")]
        samples = ((key, members | wrong_captions(name)) for key, members in esc10.samples(files))
        split = f"fold{fold}-{name.replace(' ', '_')}"
        write(out, split, samples, classes={"sound": list(esc10.CAPTIONS)}, licence="CC BY 3.0")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="the folder to write pictures, sounds and digits to")
    out = made.parse_args().out
    source = parser(None, "").parse_args(["x"]).source  # $ALIGN_DATA, else data
    write_pictures(source, out / "pictures")
    write_sounds(source, out / "sounds")
    if digits.main([str(out / "digits"), "--train", "3000", "--test", "600"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

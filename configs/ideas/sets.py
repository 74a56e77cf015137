"""Shards of the comparisons, in `shards/` of the folder that a script is started in. A set that is missing is made."""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import HERE

if TYPE_CHECKING:
    from align.data import Shards
    from align.values import Sample


def make_solids(folder: Path) -> None:
    """Write 2,000 solids to train on and 400 to test on."""
    from align.quickstart import write_world

    write_world(folder, train=2000, test=400, workers=1)


def make_scenes(folder: Path) -> None:
    """Write 2,000 scenes of two to four solids to train on and 400 to test on."""
    from align.quickstart import write_scenes

    write_scenes(folder, train=2000, test=400, workers=1)


def make_recipe(folder: Path) -> None:
    """Write the shards of a recipe from the local copy of its data."""
    subprocess.run([sys.executable, str(HERE.parents[1] / "datasets" / f"{folder.name}.py"), str(folder)], check=True)


def make_ours(folder: Path) -> None:
    """Write the shards of a script of this folder."""
    import_module(folder.name).write(folder)


SETS = {
    "solids": make_solids,
    "scenes": make_scenes,
    "digits": make_recipe,
    "cifar10": make_recipe,
    "esc10": make_recipe,
    "noisy_digits": make_ours,
    "described_solids": make_ours,
    "shaken_words": make_ours,
}


def find_shards(name: str, split: str) -> list[str]:
    """Return the shards of a split of a set in their order."""
    folder = Path("shards", name)
    if not (folder / "manifest.json").is_file():
        print(f"{folder} is made", file=sys.stderr, flush=True)
        SETS[name](folder)
    return sorted(map(str, folder.glob(f"{split}-*.tar")))


def open_set(name: str, split: str) -> Shards:
    """Return the shards of a split, whose samples come in their order."""
    from align.data import Shards

    return Shards(find_shards(name, split), shuffle=False)


@cache
def read_set(name: str, split: str) -> list[Sample]:
    """Return the samples of a split."""
    shards = open_set(name, split)
    return [shards.read(i)[0] for i in range(len(shards))]


def find_member(sample: Sample, modality: str) -> Any:
    """Return the content of a sample's plain member of a modality."""
    return next(content for name, content in sample.items() if name.split(".")[0] == modality)


def ask_folder(doc: str | None) -> Path:
    """Return the folder that the command line of a script names."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder of the shards")
    return parser.parse_args().folder

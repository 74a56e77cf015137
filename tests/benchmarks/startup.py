"""CPU seconds of short commands beside those of `import torch`, processes of their own, in turns.

    python tests/benchmarks/startup.py
    python tests/benchmarks/startup.py --repeats 9

A model of pictures and of texts in CLIP's tokens is made in a temporary folder. `zeroshot` labels eight pictures,
`search` finds a picture by a text among 64. Below them stands what the same tokens cost through open_clip's package.
The least and the median of the repeats are printed; a process that ran beside others costs more, never less.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def make(folder: Path) -> None:
    """Write `model`, its index, and eight pictures."""
    import torch
    from PIL import Image as Pictures

    from align import JointModel, Tower, save
    from align.commands import main as run
    from align.data import ShardWriter
    from align.encoders import ImageCNN, TransformerText
    from align.preprocess import Image, Tokens

    torch.manual_seed(0)
    text = Tower(Tokens(), TransformerText(49408, 77, width=64))
    save(JointModel({"image": Tower(Image(64), ImageCNN()), "text": text}, 32), folder / "model")
    draw = np.random.default_rng(0)
    for i in range(8):
        Pictures.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    with ShardWriter(folder / "shards", "test") as writer:
        for i in range(64):
            content = (folder / f"{i % 8}.png").read_bytes()
            writer.write(f"{i:04d}", {"image.png": content, "text.txt": f"picture {i}".encode()})
    if run(["index", "build", str(folder / "model"), str(folder / "shards" / "test-*.tar")]):
        raise SystemExit("the index could not be made")


def seconds(command: list[str]) -> float:
    """Return the CPU seconds of a command, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        model, align = str(folder / "model"), [sys.executable, "-m", "align"]
        pictures = [str(folder / f"{i}.png") for i in range(8)]
        sides = {
            "import torch": [sys.executable, "-c", "import torch"],
            "align zeroshot": [*align, "zeroshot", model, "--modality", "image", "--classes", "cat,dog", *pictures],
            "align search": [*align, "search", model, "a picture", "--of", "image"],
            "open_clip's tokenizer": [sys.executable, "-c", "import open_clip; open_clip.tokenize('a picture')"],
        }
        taken: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(repeats + 1):
            for side, command in sides.items():
                cost = seconds(command)
                if turn:  # the first turn reads every file from the disk
                    taken[side].append(cost)
    torch_only = taken["import torch"]
    print("| command | least CPU s | median CPU s | least / import torch | median of the turns' ratios |")
    print("|---|---|---|---|---|")
    for side, costs in taken.items():
        ratio = statistics.median(cost / plain for cost, plain in zip(costs, torch_only, strict=True))
        row = f"{min(costs):.2f} | {statistics.median(costs):.2f} | {min(costs) / min(torch_only):.2f} | {ratio:.2f}"
        print(f"| {side} | {row} |")


if __name__ == "__main__":
    main()

"""What bad data costs: samples per second of a loader on shards with 1 % bad members against the same shards, sound.

    python tests/benchmarks/bad_data.py                     # no workers, images and captions
    python tests/benchmarks/bad_data.py --workers 2 --share 0.05

Both sides have the same photo-like 500x375 JPEGs and captions; one has a share of samples whose image is cut in half,
is an HTML page, or is empty, and whose caption is no UTF-8. Sides alternate, a pass each; the ratio is of the medians
over the rounds, beside the lowest and highest ratio of a round. Every sample that was spoiled must have been counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from loading import photo

from align.data import Loader, Shards, ShardWriter
from align.preprocess import Bytes, Image

SPOILED = (  # of an image: what arrives instead
    lambda data: data[: len(data) // 2],
    lambda data: b"<html><body>404 Not Found</body></html>",
    lambda data: b"",
)


def write(folder: Path, samples: int, share: float) -> int:
    """Shards of ``samples``; returns how many samples are spoiled."""
    draw = np.random.default_rng(0)
    photos = [photo(draw) for _ in range(32)]
    wrong = set(draw.permutation(samples)[: round(share * samples)].tolist())
    with ShardWriter(folder, "train", per_shard=1000) as writer:
        for i in range(samples):
            image, text = photos[i % len(photos)], b"a photo of waves and grain"
            if i in wrong:
                image, text = SPOILED[i % len(SPOILED)](image), b"caf\xe9"
            writer.write(f"{i:06d}", {"image.jpg": image, "text.txt": text})
    return len(wrong)


def a_pass(folder: Path, workers: int, wrong: int) -> float:
    """Samples a second over all shards, from the first batch on; checks the account."""
    shards = Shards(f"{folder}/train-*.tar", max_bad=1)
    loader = Loader(shards, {"image": Image(224), "text": Bytes()}, batch=64, train=True, workers=workers)
    steps, start, rows = loader.steps_per_epoch, 0.0, 0
    for step, batch in enumerate(loader):
        if step == 0:
            start = time.perf_counter()
        rows += batch.size if step else 0
        if step + 1 == steps:
            break
    seconds = time.perf_counter() - start
    loader.close()
    found = loader.ledger.bad
    if wrong - (len(shards) - steps * 64) > found or found > wrong:
        raise SystemExit(f"{found} bad samples were counted of {wrong}")
    return rows / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--share", type=float, default=0.01, help="of samples that are bad")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sides = {"sound": Path(folder, "sound"), "bad": Path(folder, "bad")}
        wrong = {name: write(path, args.samples, args.share * (name == "bad")) for name, path in sides.items()}
        speeds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(args.rounds + 1):
            for name in sorted(sides, reverse=bool(number % 2)):
                speed = a_pass(sides[name], args.workers, wrong[name])
                if number:  # the first round warms the page cache
                    speeds[name].append(speed)
    ratios = [bad / sound for bad, sound in zip(speeds["bad"], speeds["sound"], strict=True)]
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    print(f"{os.cpu_count()} cores, {args.workers} workers, {args.samples} samples, {wrong['bad']} of them bad")
    print(f"sound  {middle['sound']:8.0f} samples/s\nbad    {middle['bad']:8.0f} samples/s")
    print(f"ratio  {middle['bad'] / middle['sound']:8.3f}  ({min(ratios):.3f} to {max(ratios):.3f} by round; aim 0.97)")


if __name__ == "__main__":
    main()

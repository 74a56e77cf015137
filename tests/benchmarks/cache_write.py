"""What writing a cache costs beside the encoder: samples per CPU second, and memory by the length of a shard.

    python tests/benchmarks/cache_write.py                  # one shard of 2,000, 8,000 and 32,000 samples, width 512
    python tests/benchmarks/cache_write.py --tokens         # with 16 tokens a row

A sample is a vector of 64 numbers in a .npy and a json. The encoder is one matrix, so the time is that of reading,
collating and writing. Each row is one process, and its memory is the peak of that process, of which "imports" is that
of a process that writes 64 samples.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from align import Features, JointModel, Tower
from align.data import ShardWriter
from align.embedding import write_cache
from align.preprocess import Array

WIDTH = 512


class Matrix(nn.Module):
    """(n, 64) to features of width 512, and 16 tokens."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.width = width
        self.net = nn.Linear(64, width)

    def forward(self, values: Tensor) -> Features:
        x = self.net(values)
        return Features(x, x[:, None].expand(-1, 16, -1))


def write(folder: Path, samples: int) -> None:
    draw = np.random.default_rng(0)
    with ShardWriter(folder, per_shard=samples) as writer:
        for i in range(samples):
            file = io.BytesIO()
            np.save(file, draw.normal(size=64).astype(np.float32))
            writer.write(f"{i:07d}", {"series.npy": file.getvalue(), "json": b'{"label": 1}'})


def measure(folder: Path, tokens: bool) -> None:
    """Print samples, CPU seconds and the peak of memory in MiB of one writing."""
    torch.set_num_threads(1)
    model = JointModel({"series": Tower(Array((64,)), Matrix())}, 64).eval()
    begin = time.process_time()
    report = write_cache(model, f"{folder}/train-*.tar", folder / "cache", name="matrix", tokens=tokens)
    seconds = time.process_time() - begin
    print(report.samples, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="*", default=[64, 2000, 8000, 32000])
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.tokens)
        return
    print(f"{'samples':>8} {'CPU s':>7} {'samples/CPU s':>14} {'peak MiB':>9}")
    for samples in args.samples:
        with tempfile.TemporaryDirectory() as place:
            write(Path(place), samples)
            again = [sys.executable, __file__, "--measure", place, *(["--tokens"] if args.tokens else [])]
            said = subprocess.run(again, check=True, capture_output=True, text=True).stdout.split()
        n, seconds, peak = int(said[0]), float(said[1]), float(said[2])
        name = "imports" if samples == 64 else str(n)
        print(f"{name:>8} {seconds:>7.1f} {n / seconds:>14,.0f} {peak:>9.0f}", flush=True)


if __name__ == "__main__":
    main()

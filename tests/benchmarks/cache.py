"""Rows a CPU-second from a cache, and a training step from it beside the same heads on data in memory.

    python tests/benchmarks/cache.py [--rows 65536] [--width 512]

The cache is of random rows. Rounds of both sides are interleaved, and the smallest time of each counts.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from align import JointModel, Objective, Term, Tower
from align.data import Columns, Loader
from align.data.columns.format import BLOCK, hash_keys
from align.data.columns.part import PartWriter
from align.encoders import Precomputed
from align.files import write_json
from align.heads import MLP
from align.losses import InfoNCE
from align.values import Batch, Rows

MODALITIES = ("image", "text")


def made(folder: Path, rows: int, width: int, dtype: torch.dtype, per_shard: int = 16384) -> Path:
    """Write a cache of random rows, one of each modality a sample."""
    draws, shards = torch.Generator().manual_seed(0), []
    for s in range(-(-rows // per_shard)):
        count = min(per_shard, rows - s * per_shard)
        keys = [f"{s:04d}{i:06d}" for i in range(count)]
        shards.append({"name": f"t-{s:06d}.tar", "sha256": f"{s:064d}", "samples": count, "keys": hash_keys(keys)})
        with PartWriter(folder, "a", shards[-1]["name"], source=shards[-1]["sha256"]) as part:
            for start in range(0, count, BLOCK):
                n = min(BLOCK, count - start)
                tensors = {f"{m}.values": torch.randn(n, width, generator=draws).to(dtype) for m in MODALITIES}
                tensors |= {f"{m}.sample": torch.arange(start, start + n) for m in MODALITIES}
                about = {"keys": keys[start : start + n], "labels": [0] * n, "source": [shards[-1]["name"]] * n}
                part.add(start, n, tensors, {**about, "bad": []})
    facts = {"weights": "", "preprocess": "", "kind": "features", "unit": False, "scale": None, "windows": None}
    facts |= {"dtype": str(dtype).removeprefix("torch."), "width": width, "tokens": False}
    sets = {"a": {"model": "random", "sha256": "", "columns": dict.fromkeys(MODALITIES, facts)}}
    write_json(folder / "cache.json", {"schema": 1, "shards": shards, "sets": sets})
    return folder


def resident() -> tuple[int, int]:
    """Return this process's anonymous and file-backed resident memory in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "RssFile"))}
    return int(facts["RssAnon"]) // 1024, int(facts["RssFile"]) // 1024


def read(folder: Path, model: JointModel, batch: int, modalities: tuple[str, ...]) -> None:
    """Print the rows a CPU-second of the loader alone, after a first pass that checks the blocks."""
    before = resident()
    columns = Columns({m: f"{folder}/a:{m}" for m in modalities})
    readers = {m: model.preprocess[m] for m in modalities}
    steps = len(columns) // batch
    times = []
    for first in range(4):
        loader = Loader(columns, readers, batch=batch, train=True, start_step=first * steps, steps=steps)
        begin = time.process_time()
        rows = sum(each[m].n for each in loader for m in modalities)
        times.append(time.process_time() - begin)
    anonymous, mapped = (now - then for now, then in zip(resident(), before, strict=True))
    print(
        f"reading {'+'.join(modalities)}: {rows / min(times[1:]):,.0f} rows a CPU-second ({rows / times[0]:,.0f} in the "
        f"first pass, which checks the blocks); memory: {anonymous} MiB of its own, {mapped} MiB of mapped pages"
    )


def train(folder: Path, width: int, batch: int, dim: int, rounds: int = 4) -> None:
    """Print the CPU time of a step from the cache over that of the same heads and loss on tensors in memory."""
    model = JointModel({m: Tower(encoder=Precomputed(width), head=MLP) for m in MODALITIES}, dim)
    objective = Objective({"a": Term(InfoNCE(), [*MODALITIES])}, dim=dim, batch=batch, modalities=[*MODALITIES])
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()])
    columns = Columns({m: f"{folder}/a:{m}" for m in MODALITIES})
    steps = len(columns) // batch
    numbers = torch.arange(len(columns)).numpy()
    tables = {m: columns.find_rows(m, numbers).values for m in MODALITIES}
    sample = torch.arange(batch)

    def in_memory():
        order = torch.randperm(len(columns))
        for s in range(steps):
            chosen = order[s * batch : (s + 1) * batch]
            yield Batch({m: Rows(tables[m][chosen], sample) for m in MODALITIES}, [""] * batch, chosen)

    def from_cache(r: int):
        return Loader(columns, model.preprocess, batch=batch, train=True, start_step=r * steps, steps=steps)

    def run(batches) -> float:
        begin = time.process_time()
        for each in batches:
            optimizer.zero_grad()
            objective(model(each), generator=None)[0].backward()
            optimizer.step()
        return (time.process_time() - begin) / steps

    cache, memory = [], []
    for r in range(rounds):
        cache.append(run(from_cache(r)))
        memory.append(run(in_memory()))
    a, b = min(cache), min(memory)
    print(f"training, batch {batch}, dim {dim}: {1e3 * a:.1f} ms a step, in memory {1e3 * b:.1f} ms: {a / b:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=65536)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float16):
        with tempfile.TemporaryDirectory() as folder:
            made(Path(folder), options.rows, options.width, dtype)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.tar")) >> 20
            print(f"{dtype}, {options.rows:,} samples of {len(MODALITIES)} rows of width {options.width}, {size} MiB")
            model = JointModel({m: Tower(encoder=Precomputed(options.width)) for m in MODALITIES}, 8)
            read(Path(folder), model, options.batch, MODALITIES[:1])
            read(Path(folder), model, options.batch, MODALITIES)
            train(Path(folder), options.width, options.batch, options.dim)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()

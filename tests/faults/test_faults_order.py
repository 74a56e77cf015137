"""Rows 6, 20 and 26: one order whoever reads, equal steps on every rank, and memory that does not grow."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from pathlib import Path

import corpus
import pytest
import torch
from tiny_data import write

import align.data.pieces
from align.data import Loader, Mixture, Shards, join
from align.preprocess import Bytes

BATCH = 12
SIZES = [13, 29, 7, 41, 17, 5, 23]  # samples of the shards, unequal
WORLDS, WORKERS = (1, 2, 3, 4), (0, 1, 2, 3, 4)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("unequal")
    out = []
    for number, size in enumerate(SIZES):
        path = folder / f"train-{number:06d}.tar"
        corpus.shard(path, {f"{number}/{i}": {"text.txt": f"{number} {i}".encode()} for i in range(size)})
        out.append(path)
    Shards(out)  # indexed once
    return out


def load(urls, kind="shards", **options) -> Loader:
    source = Shards(urls, seed=2, block=4 if kind == "blocks" else None)
    if kind == "mixture":
        two = {"a": Shards(urls[:3], seed=2), "b": Shards(urls[3:], seed=3)}
        source = Mixture(two, {"a": 1, "b": 2}, batch=BATCH)
    return Loader(source, {"text": Bytes(context=8)}, **{"batch": BATCH, "train": True, "seed": 1, **options})


def emulated(loader: Loader, workers: int) -> list[list[str]]:
    """The ids of each step as so many workers and the joining main process would make them, in this process."""
    parts, real = [], align.data.pieces.get_worker_info
    try:
        for worker in range(max(1, workers)):
            info = type("Info", (), {"id": worker, "num_workers": max(1, workers)})
            align.data.pieces.get_worker_info = lambda info=info: info
            parts.append([part for part, _ in loader._pieces])
    finally:
        align.data.pieces.get_worker_info = real
    return [join(list(many)).ids for many in zip(*parts, strict=True)]


def together(ranks: list[list[list[str]]]) -> list[list[str]]:
    """The ids of each global step, from those of each rank."""
    world = len(ranks)
    steps = []
    for of_ranks in zip(*ranks, strict=True):
        ids = [""] * sum(map(len, of_ranks))
        for rank, some in enumerate(of_ranks):
            ids[rank::world] = some
        steps.append(ids)
    return steps


def read_by(urls, world: int, workers: int, **options) -> list[list[list[str]]]:
    return [emulated(load(urls, rank=r, world=world, **options), workers) for r in range(world)]


# row 6


@pytest.mark.parametrize("kind", ["shards", "blocks", "mixture"])
def test_a_run_goes_on_with_other_ranks_and_workers(fault, shards, kind):
    """Stopped after 4 steps of 11 an epoch by each of the grid, continued by each other shape of a part of it."""
    row = fault("6", f"resume with other ranks x workers, {kind}", other_sequences=0)
    steps = 25
    whole = together(read_by(shards, 1, 0, steps=steps, kind=kind))
    other = points = 0
    for world in WORLDS:
        for workers in WORKERS:
            for at in (4, 11):  # inside an epoch of eleven steps, and at its border
                rest = together(read_by(shards, world, workers, start_step=at, steps=steps - at, kind=kind))
                points += 1
                other += rest != whole[at:]
    row.measured(other_sequences=other, grid_points=points, samples=len({key for ids in whole for key in ids}))


def with_processes(urls, world: int, workers: int, **options) -> list[list[list[str]]]:
    loaders = [load(urls, rank=r, world=world, workers=workers, **options) for r in range(world)]
    try:
        return [[batch.ids for batch in loader] for loader in loaders]
    finally:
        for loader in loaders:
            loader.close()


def test_a_run_goes_on_with_other_worker_processes(fault, shards):
    row = fault("6", "resume with other ranks x workers, real processes", other_sequences=0)
    whole = together(read_by(shards, 1, 0, steps=14))
    shapes = [(1, 2), (2, 1), (1, 3)]
    other = sum(
        together(with_processes(shards, world, workers, start_step=5, steps=9)) != whole[5:]
        for world, workers in shapes
    )
    row.measured(other_sequences=other, grid_points=len(shapes))


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["shards", "blocks", "mixture"])
def test_the_whole_grid_with_processes(fault, shards, kind):
    row = fault("6", f"resume over the whole grid, real processes, {kind}", other_sequences=0)
    whole = together(read_by(shards, 1, 0, steps=14, kind=kind))
    grid = [(world, workers) for world in WORLDS for workers in WORKERS]
    other = sum(together(with_processes(shards, *at, start_step=5, steps=9, kind=kind)) != whole[5:] for at in grid)
    row.measured(other_sequences=other, grid_points=len(grid))


# row 20


@pytest.mark.parametrize("some", [1, 2, 3, 5, 7])
def test_every_sample_once_and_equal_steps(fault, shards, some):
    """Training drops what does not fill a batch, N mod B of an epoch; evaluation drops nothing."""
    bar = {"ranks_of_other_steps": 0, "twice": 0, "dropped_besides_rule": 0, "evaluation_not_once": 0, "orders": 1}
    row = fault("20", f"{some} unequal shards x 1-4 ranks x 0-4 workers", **bar)
    urls, out, orders = shards[:some], Counter(dict.fromkeys(bar, 0)), set()
    samples = sum(SIZES[:some])
    for world in WORLDS:
        for workers in WORKERS:
            per_epoch = load(urls).steps_per_epoch
            ranks = read_by(urls, world, workers, steps=per_epoch)
            out["ranks_of_other_steps"] += sum(len(steps) != samples // BATCH for steps in ranks)
            seen = Counter(key for steps in ranks for ids in steps for key in ids)
            out["twice"] += sum(n - 1 for n in seen.values())
            out["dropped_besides_rule"] += samples - samples % BATCH - len(seen)
            orders.add(str(together(ranks)))
            ranks = read_by(urls, world, workers, train=False)
            out["ranks_of_other_steps"] += sum(len(steps) != -(-samples // BATCH) for steps in ranks)
            seen = Counter(key for steps in ranks for ids in steps for key in ids)
            out["evaluation_not_once"] += len(seen) != samples or set(seen.values()) != {1}
            out["grid_points"] += 1
    row.measured(**{**out, "orders": len(orders)})


SHAPES = [(1, 2, 2), (3, 2, 1), (2, 4, 1)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("some", "world", "workers"), SHAPES)
def test_no_processes_hang(fault, shards, some, world, workers):
    name = f"{some} shards x {world} ranks x {workers} workers, real processes"
    row = fault("20", name, other_orders=0, steps_of_ranks=[2 * (sum(SIZES[:some]) // BATCH)])
    urls = shards[:some]
    steps = 2 * load(urls).steps_per_epoch  # over the border of an epoch
    began = time.monotonic()
    found = with_processes(urls, world, workers, steps=steps)
    seconds = time.monotonic() - began
    expected = together(read_by(urls, 1, 0, steps=steps))
    lengths = sorted({len(of_rank) for of_rank in found})
    row.measured(other_orders=int(together(found) != expected), steps_of_ranks=lengths, seconds=seconds)


@pytest.mark.sweep
@pytest.mark.parametrize("some", [1, 2, 3, 5, 7])
def test_no_processes_hang_anywhere(fault, shards, some):
    row = fault("20", f"{some} shards x 1-4 ranks x 0-4 workers, real processes", other_orders=0)
    urls = shards[:some]
    steps = 2 * load(urls).steps_per_epoch
    expected = together(read_by(urls, 1, 0, steps=steps))
    grid = [(world, workers) for world in WORLDS for workers in WORKERS]
    row.measured(
        other_orders=sum(together(with_processes(urls, *at, steps=steps)) != expected for at in grid),
        grid_points=len(grid),
    )


def test_too_few_samples_are_refused_at_the_start(fault, shards):
    row = fault("20", "a shard of 5 samples, a batch of 12", refused=12, seconds_to_refusal=fault.most(5))
    refused, began = 0, time.monotonic()
    for world in (1, 2, 4):
        for workers in (0, 1, 2, 4):
            with pytest.raises(ValueError, match=r"a batch of 12 needs as many samples; .* hold 5: lower the batch"):
                load([shards[5]], rank=world - 1, world=world, workers=workers)
            refused += 1
    row.measured(refused=refused, seconds_to_refusal=(time.monotonic() - began) / refused)


# row 26


def resident(pid: int | str = "self") -> float:
    """MiB that only this process holds, and its share of what it holds with others; without files, whose share depends
    on who else runs torch on the machine."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def soak(folder: Path, samples: int, workers: int, epochs: int) -> tuple[float, int]:
    """(MiB of all processes per 10,000 samples, readings) over some epochs, a least-squares line after the first
    fifth of an epoch."""
    pattern = write(
        folder, samples, per_shard=5000, make=lambda i: {"text.txt": f"thing {i} {'x' * (i % 50)}".encode()}
    )
    shards = Shards(pattern)
    loader = Loader(
        shards, {"text": Bytes(context=64)}, batch=100, train=True, workers=workers, steps=epochs * samples // 100
    )
    seen, readings = [], []
    for step, _ in enumerate(loader):
        if step % (samples // 2000) == 0 and step * 100 >= samples // 5:
            gc.collect()
            pids = [str(p.pid) for p in loader._workers._running._workers] if workers else []
            seen.append(step / 100.0)  # in 10,000 samples
            readings.append(sum(map(resident, ["self", *pids])))
    loader.close()
    x, y = torch.tensor(seen, dtype=torch.float64), torch.tensor(readings, dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum()), len(readings)


@pytest.mark.sweep
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="counts memory as Linux tells it")
def test_memory_does_not_grow(fault, tmp_path):
    row = fault("26", "100k samples, 4 persistent workers, 3 epochs", mib_per_10k_samples=fault.most(1))
    slope, readings = soak(tmp_path / "soak", 100_000, 4, 3)
    row.measured(mib_per_10k_samples=slope, readings=readings)

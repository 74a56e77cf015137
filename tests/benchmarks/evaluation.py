"""Time and memory of evaluators at 12,500 to 100,000 rows of 512 numbers: CPU seconds, peak memory and growth.

    PYTHONPATH=. python tests/benchmarks/evaluation.py
    PYTHONPATH=. python tests/benchmarks/evaluation.py --sizes 12500,25000 --with direction,retrieval,hubness

"direction" is one direction of retrieval, image to text by sample: recall@k, median rank, MRR, mAP, nDCG@10 and their
intervals of 1,000 draws. A name of an evaluator runs all of it, with 100 classes
(zeroshot needs a tower of texts, which this has not). Each measurement is a process of its
own. Memory is the peak of the resident set beside the embeddings and the loaded libraries.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

NAMES = [f"class {i}" for i in range(100)]


def rows(n: int, dim: int) -> dict[str, torch.Tensor]:
    """(n, dim) unit rows of two modalities, made in pieces so that the peak is their own."""
    draw = torch.Generator().manual_seed(0)
    out = {m: torch.empty(n, dim) for m in ("image", "text")}
    for start in range(0, n, 1000):
        part = slice(start, min(n, start + 1000))
        shared = torch.randn(part.stop - start, dim, generator=draw)
        for table in out.values():
            table[part] = F.normalize(shared + 1.5 * torch.randn(shared.shape, generator=draw), dim=1)
    return out


def resident() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def space_of(tables: dict[str, torch.Tensor]):
    """A Space of given embeddings, without a model that reads shards."""
    from align import JointModel, Tower
    from align.encoders import Precomputed
    from align.evaluation import Space
    from align.evaluation.hits import HitRule, by_sample
    from align.preprocess import Array
    from align.values import Embeddings, Rows

    n, dim = tables["image"].shape
    sample = torch.arange(n)
    labels = [NAMES[i % len(NAMES)] for i in range(n)]
    table = Embeddings(
        {m: Rows(x, sample, content=sample) for m, x in tables.items()}, list(map(str, range(n))), sample, labels
    )
    space = object.__new__(Space)
    space.model = JointModel({m: Tower(Array((4,)), Precomputed(4)) for m in tables}, dim=dim).eval()
    space.shards, space.train, space.distractors = None, None, None  # pyright: ignore[reportAttributeAccessIssue]
    space.classes, space.known, space.templates = {"label": {c: c for c in NAMES}}, {"label": NAMES}, {"label": ["{}"]}
    space.descriptions, space._plain, space._together = {}, None, False
    space.ks, space.seed, space.draws, space.progress = (1, 5, 10), 0, 1000, None
    space.bad, space.labels, space._hit = {}, {"test": labels}, HitRule("sample", by_sample())
    space._tables, space._changes = {("embedding", "test"): table}, {}
    return space


def direction(tables: dict[str, torch.Tensor]) -> None:
    """One direction of retrieval and its intervals."""
    from align.evaluation.hits import by_sample
    from align.evaluation.ranking import Asked, HitMetrics, rank_queries
    from align.evaluation.samples import intervals
    from align.metrics import weighted_median

    sample = torch.arange(len(tables["text"]))
    asked = Asked({"image": tables["image"]}, {"image": sample}, sample, "text", [tables["text"]], sample)
    found = rank_queries(asked, HitMetrics(by_sample(), (1, 5, 10), 10, precision=True))
    intervals(
        {m: (x, found.row) for m, x in found.values.items()}, {"median_rank": weighted_median}, draws=1000, seed=0
    )
    print({metric: round(value, 4) for metric, value in found.scores.items()}, file=sys.stderr)


def measure(name: str, n: int, dim: int) -> None:
    """Print "CPU seconds, MiB" of one measurement."""
    tables = rows(n, dim)
    if name == "direction":
        direction({m: x[:2000] for m, x in tables.items()})  # all libraries are loaded
        before, start = resident(), time.process_time()
        direction(tables)
    else:
        from align.evaluation.pick import pick

        [evaluator], space = pick([name]), space_of(tables)
        before, start = resident(), time.process_time()
        found = evaluator.run(space)
        space.intervals({k: v for k, v in found.samples.items() if k not in found.intervals}, found.statistics)
    print(time.process_time() - start, max(0.0, peak() - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="12500,25000,50000,100000")
    parser.add_argument("--with", dest="names", default="direction")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(n) for n in options.sizes.split(",")]
    if options.one:
        measure(options.one, sizes[0], options.dim)
        return
    print(f"{'evaluator':<14}{'rows':>9}{'CPU s':>10}{'MiB':>8}  growth of time")
    for name in options.names.split(","):
        before = None
        for n in sizes:
            command = [sys.executable, __file__, "--one", name, "--sizes", str(n), "--dim", str(options.dim)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                print(f"{name:<14}{n:>9,}   failed, see above", flush=True)
                break
            seconds, memory = map(float, done.stdout.split()[-2:])
            growth = "" if before is None else f"  x {seconds / before[1]:.1f} for x {n / before[0]:.1f} rows"
            print(f"{name:<14}{n:>9,}{seconds:>10.1f}{memory:>8.0f}{growth}", flush=True)
            before = n, seconds


if __name__ == "__main__":
    main()

"""Time to fit heads in closed form, the table of docs/bind.md: `OMP_NUM_THREADS=1 python tests/benchmarks/bind.py`.

Rows are random and float16, as a cache stores them. The moments are summed one time, and every method starts from them.
CPU seconds are of one thread, the smallest of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from align.bind.fitting import METHODS, check_method, fit_heads
from align.bind.moments import sum_moments


def seconds(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    g = torch.Generator().manual_seed(0)
    causes = torch.randn(args.pairs, 64, generator=g)
    x, y = (causes @ torch.randn(64, args.width, generator=g) / 8 for _ in range(2))
    x, y = ((rows + torch.randn(rows.shape, generator=g)).half() for rows in (x, y))
    moments = sum_moments(x, y)
    total = seconds(lambda: sum_moments(x, y), args.rounds)
    print(f"{args.pairs} pairs of {args.width} and {args.width} numbers, {torch.get_num_threads()} thread(s)")
    print(f"{'moments':<12} {total:6.2f} s")
    for name in METHODS:
        fit = seconds(partial(fit_heads, {"a": moments}, "b", check_method(name)), args.rounds)
        print(f"{name:<12} {fit:6.2f} s, with the moments {total + fit:6.2f} s")


if __name__ == "__main__":
    main()

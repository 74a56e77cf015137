"""Points of clouds: our farthest point sampling beside fpsample's exact sampler, and our neighbours and balls.

    pip install fpsample
    python tests/benchmarks/clouds.py

About a minute on one thread. Both sides take turns on the same clouds. A figure is the median over the rounds of the
CPU time a cloud; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from align.encoders.clouds.groups import take
from align.encoders.clouds.near import ball, neighbours
from align.encoders.clouds.sampling import farthest_points


def drawn(n: int, points: int) -> Tensor:
    """Return clouds (n, points, 3) of the surfaces of ellipsoids in the unit ball."""
    torch.manual_seed(0)
    clouds = torch.nn.functional.normalize(torch.randn(n, points, 3), dim=-1) * (0.3 + 0.7 * torch.rand(n, 1, 3))
    return clouds / clouds.norm(dim=-1).amax(1)[:, None, None]


def peer() -> Callable[[Tensor, int], list] | None:
    """Return fpsample's exact sampler, a cloud after another, None where it is not installed."""
    try:
        import fpsample
    except ImportError:
        return None
    return lambda clouds, count: [fpsample.fps_sampling(c, count, start_idx=0) for c in clouds.numpy()]


def times(calls: dict[str, Callable[[], object]], clouds: int, rounds: int) -> dict[str, list[float]]:
    """Return each call's CPU milliseconds a cloud, a round after another."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            if i:  # the first round warms up
                found[name].append((time.process_time() - started) / clouds * 1000)
    return found


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def compare(n: int, points: int, count: int, rounds: int) -> None:
    clouds, other = drawn(n, points), peer()
    calls: dict[str, Callable[[], object]] = {"align": lambda: farthest_points(clouds, count, 0)}
    if other is not None:
        calls["fpsample"] = lambda: other(clouds, count)
    if n > 1:
        calls["align, batched"] = lambda: farthest_points(clouds, count, 0, batched=True)
    before = peak()
    found = times(calls, n, rounds)
    for name, figures in found.items():
        print(f"sample {points} -> {count}, {n:2} clouds, {name:15} {statistics.median(figures):7.2f} ms a cloud")
    if other is not None:
        ratio = statistics.median(a / b for a, b in zip(found["align"], found["fpsample"], strict=True))
        ours = farthest_points(clouds, count, 0)
        same = (ours == torch.tensor([list(map(int, row)) for row in other(clouds, count)])).all(1).sum().item()
        print(f"    ratio {ratio:.2f} (goal: at most 1.5), equal indices in {same} of {n}")
    print(f"    peak memory {peak()} MiB, {peak() - before} of it here")


def search(n: int, points: int, count: int, rounds: int) -> None:
    clouds = drawn(n, points)
    centres = take(clouds, farthest_points(clouds, count, 0))
    calls: dict[str, Callable[[], object]] = {
        "32 neighbours": lambda: neighbours(centres, clouds, 32),
        "64 neighbours": lambda: neighbours(centres, clouds, 64),
        "64 of a ball of .2": lambda: ball(centres, clouds, 0.2, 64),
    }
    before = peak()
    for name, figures in times(calls, n, rounds).items():
        print(f"{name:20} {points} points, {count} centres, {n:2} clouds {statistics.median(figures):7.2f} ms a cloud")
    print(f"    peak memory {peak()} MiB, {peak() - before} of it here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if peer() is None:
        print("fpsample is not installed: pip install fpsample")
    for n in (1, 16):
        compare(n, given.points, given.count, given.rounds)
        search(n, given.points, given.count, given.rounds)


if __name__ == "__main__":
    main()

"""Small runs before and after a change: CPU seconds, wall time, peak memory and scores, both sides in one session.

    python tests/benchmarks/small_runs.py --before ../before    # the quickstart, seeds 0 and 1, then bf16-mixed
    python tests/benchmarks/small_runs.py --before ../before --runs digits cifar10 esc10 --steps 300 --seeds 0

``--before`` is a work tree of the older code. Each run is a process of its own. CPU seconds are those of the process
and its workers (``os.wait4``), peak memory is that of the largest of them. The sides take turns, so the machine does
nothing else. A first short run of each side, which is not counted, writes Python's caches. Scores are compared one by
one. The recipes read $ALIGN_DATA. With ``--steps`` runs are shorter, and a config is not evaluated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[2]
CALL = "import sys; from align.commands import main; sys.exit(main())"
SHORT = ["--objects", "500", "--test", "20", "--steps", "1"]


class Cost(NamedTuple):
    cpu: float  # s
    wall: float  # s
    peak: float  # MiB


class Side(NamedTuple):
    """A run of one side."""

    cost: Cost
    scores: dict[str, float]


class Running:
    """A command of one side, as a process."""

    def __init__(self, tree: Path, *args: str):
        env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")}
        env |= {"PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the object
        self.args, self.begin = args, time.monotonic()
        command = [sys.executable, *args] if args[0].endswith(".py") else [sys.executable, "-c", CALL, *args]
        self.process = subprocess.Popen(command, env=env, cwd=tree, stdout=self.log, stderr=subprocess.STDOUT)

    def wait(self) -> Cost:
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode:
            self.log.seek(0)
            raise SystemExit(f"{' '.join(self.args)} failed:\n{self.log.read().decode()[-2000:]}")
        return Cost(used.ru_utime + used.ru_stime, time.monotonic() - self.begin, used.ru_maxrss / 1024)


def commands(name: str, out: Path, shards: Path, seed: int, options: argparse.Namespace) -> list[list[str]]:
    """Return the command that is measured, and the one that makes scores where it makes none."""
    if name == "quickstart":
        more = ["--steps", str(options.steps)] if options.steps else []
        more += ["--objects", str(options.objects)] if options.objects else []
        return [["quickstart", str(out), "--seed", str(seed), *more]]
    train = ["train", "--config", f"configs/{name}.yaml", "--run", str(out), "--seed", str(seed)]
    train += [f"--data.train={shards}/train-*.tar", f"--data.val={shards}/test-*.tar"]
    if options.steps:
        return [[*train, "--trainer.max_steps", str(options.steps)]]
    return [train, ["evaluate", str(out), f"{shards}/test-*.tar", "--no-report"]]


def scores(out: Path) -> dict[str, float]:
    """Return the scores of a run, or its last loss where it was not evaluated."""
    if (out / "results.json").is_file():
        found = json.loads((out / "results.json").read_text())
        return {k: v for k, v in found.items() if isinstance(v, float) and "rank" not in k}
    header, *_, last = (out / "metrics.csv").read_text().splitlines()
    return {"loss": float(dict(zip(header.split(","), last.split(","), strict=True))["loss"])}


def run(name: str, seed: int, side: str, folder: Path, options: argparse.Namespace, *more: str) -> Side:
    """Return the cost and the scores of one run. side: "before", "after", or another name of a run after the change."""
    shards = folder / f"{name}-shards"
    if name != "quickstart" and not shards.exists():
        Running(HERE, str(HERE / "datasets" / f"{name}.py"), str(shards)).wait()
    tree, out = options.before.resolve() if side == "before" else HERE, folder / f"{name}-{seed}-{side}"
    first, *rest = commands(name, out, shards, seed, options)
    cost = Running(tree, *first, *more).wait()
    for command in rest:
        Running(tree, *command).wait()
    print(f"{name:<11} {seed:>4}  {side:<11} {cost.cpu:8.1f} {cost.wall:8.1f} {cost.peak:9.0f}", flush=True)
    return Side(cost, scores(out))


def compare(name: str, seed: int, before: Side, after: Side) -> None:
    """Print the ratios of two sides, and the scores that differ most."""
    ratio = [x / y for x, y in zip(after.cost, before.cost, strict=True)]
    print(f"{name:<11} {seed:>4}  {'ratio':<11} {ratio[0]:8.2f} {ratio[1]:8.2f} {ratio[2]:9.2f}")
    both = sorted(before.scores.keys() & after.scores.keys())
    far = sorted(both, key=lambda key: -abs(after.scores[key] - before.scores[key]))
    said = "; ".join(f"{key} {before.scores[key]:.4f} -> {after.scores[key]:.4f}" for key in far[:3])
    most = abs(after.scores[far[0]] - before.scores[far[0]])
    above = sum(abs(after.scores[key] - before.scores[key]) > 0.02 for key in both)
    print(f"{name:<11} {seed:>4}  {len(both)} scores; largest difference {most:.4f}; {above} above .02; {said}")
    for kind, missing in (("before", before.scores), ("after", after.scores)):
        if alone := sorted(missing.keys() - set(both)):
            print(f"{name:<11} {seed:>4}  only {kind}: {len(alone)} scores, such as {alone[0]}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a work tree of the older code")
    parser.add_argument("--runs", nargs="+", default=["quickstart"], help="quickstart, or names of configs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=0, help="cut the runs to so many steps")
    parser.add_argument("--objects", type=int, default=0, help="of the quickstart's world, 500 or more")
    parser.add_argument("--no-bf16", action="store_true", help="leave out the row of the quickstart in bf16-mixed")
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'run':<11} seed  {'side':<11} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9}", flush=True)
    with tempfile.TemporaryDirectory() as made:
        folder = (options.out or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for tree in (options.before.resolve(), HERE):
            Running(tree, "quickstart", str(folder / "first"), *SHORT).wait()
            shutil.rmtree(folder / "first")
        for name in options.runs:
            sides = {}
            for seed in options.seeds:
                sides[seed] = before = run(name, seed, "before", folder, options)
                compare(name, seed, before, run(name, seed, "after", folder, options))
            if name == "quickstart" and not options.no_bf16:
                seed = options.seeds[0]
                low = run(name, seed, "bf16-mixed", folder, options, "--precision", "bf16-mixed")
                compare(name, seed, sides[seed], low)


if __name__ == "__main__":
    main()

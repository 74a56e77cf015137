"""Small runs before and after a change: CPU seconds, wall time, peak memory and scores, both sides in one session.

    python tests/benchmarks/small_runs.py --before ../before               # the quickstart, seeds 0 and 1
    python tests/benchmarks/small_runs.py --before ../before --together    # both sides at once, on a busy machine
    python tests/benchmarks/small_runs.py --before ../before --runs digits cifar10 esc10 --steps 300
    python tests/benchmarks/small_runs.py --before ../before --precision bf16-mixed --seeds 0

``--before`` is a work tree of the older code. Each run is a process of its own. CPU seconds are those of the process
and its workers (``os.wait4``), peak memory is that of the largest of them. The sides take turns. With ``--together``
they run side by side and share what else the machine does, so their ratio is steadier than their seconds. The recipes
read $ALIGN_DATA. With ``--steps`` a config is cut to so many steps and is not evaluated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[2]
CALL = "import sys; from align.commands import main; sys.exit(main())"


class Cost(NamedTuple):
    cpu: float  # s
    wall: float  # s
    peak: float  # MiB


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
        return [["quickstart", str(out), "--seed", str(seed)]]
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


def compare(name: str, seed: int, folder: Path, options: argparse.Namespace) -> None:
    shards = folder / f"{name}-shards"
    if name != "quickstart" and not shards.exists():
        Running(HERE, str(HERE / "datasets" / f"{name}.py"), str(shards)).wait()
    sides = {"before": options.before, "after": HERE}
    costs: dict[str, Cost] = {}
    running = {}
    for side, tree in sides.items():
        out = folder / f"{name}-{seed}-{side}"
        first, *_ = commands(name, out, shards, seed, options)
        if side == "after" and options.precision:
            first += ["--precision" if name == "quickstart" else "--trainer.precision", options.precision]
        running[side] = Running(tree.resolve(), *first)
        if not options.together:
            costs[side] = running[side].wait()
    if options.together:
        with ThreadPoolExecutor() as pool:
            costs = dict(zip(sides, pool.map(lambda side: running[side].wait(), sides), strict=True))
    found = {}
    for side, tree in sides.items():
        out = folder / f"{name}-{seed}-{side}"
        for more in commands(name, out, shards, seed, options)[1:]:
            Running(tree.resolve(), *more).wait()
        found[side] = scores(out)
    before, after = costs["before"], costs["after"]
    for side, cost in sorted(costs.items(), reverse=True):
        print(f"{name:<11} {seed:>4}  {side:<7} {cost.cpu:8.1f} {cost.wall:8.1f} {cost.peak:9.0f}", flush=True)
    print(
        f"{name:<11} {seed:>4}  {'ratio':<7} {after.cpu / before.cpu:8.2f} {after.wall / before.wall:8.2f} "
        f"{after.peak / before.peak:9.2f}"
    )
    worst = sorted(found["before"], key=lambda key: -abs(found["after"][key] - found["before"][key]))[:3]
    said = "; ".join(f"{key} {found['before'][key]:.3f} -> {found['after'][key]:.3f}" for key in worst)
    print(f"{name:<11} {seed:>4}  {len(found['before'])} scores, the most different: {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a work tree of the older code")
    parser.add_argument("--runs", nargs="+", default=["quickstart"], help="quickstart, or names of configs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=0, help="cut the configs' runs to so many steps")
    parser.add_argument("--precision", help="of the runs after the change")
    parser.add_argument("--together", action="store_true", help="run both sides at the same time")
    parser.add_argument("--out", type=Path, help="keep the runs in this folder")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'run':<11} seed  {'side':<7} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory() as made:
        folder = (options.out or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.runs:
            for seed in options.seeds:
                compare(name, seed, folder, options)


if __name__ == "__main__":
    main()

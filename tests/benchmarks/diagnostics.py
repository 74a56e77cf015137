"""Share of a run's time that its diagnostics, alarms, log and progress take, at their defaults.

    python tests/benchmarks/diagnostics.py                       # the quickstart's world, 100 steps
    python tests/benchmarks/diagnostics.py --config configs/digits.yaml --train 'shards/train-*.tar' \\
        --val 'shards/test-*.tar' --steps 200

The calls of each callback are timed inside one run, in CPU seconds of the process, so other work on the machine does
not count. The run decodes in the same process (``data.workers 0``). The share of the measures is that of the shortest
time between two of them that the default allows: 80 samples trained for each sample of the slice. The bar for
diagnostics with alarms, and that for the log, is 1 %.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE))
SLICE = "measure of the slice"
DIAGNOSTICS = (SLICE, "gradient norms", "spread of the batch", "watchers")
OTHERS = ("log", "of it: TensorBoard", "progress")

seconds: Counter[str] = Counter()
calls: Counter[str] = Counter()


def watch(owner: Any, method: str, name: str) -> None:
    """Count the calls of a method and their CPU seconds."""
    inner = getattr(owner, method)

    @functools.wraps(inner)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            seconds[name] += time.process_time() - begin
            calls[name] += 1

    setattr(owner, method, timed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(HERE / "align/quickstart/config.yaml"))
    parser.add_argument("--train")
    parser.add_argument("--val")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--objects", type=int, default=500, help="of the quickstart's world")
    asked = parser.parse_args()

    import torch
    import yaml
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    from align.commands.train import parse
    from align.diagnostics import Diagnose
    from align.diagnostics.slice import SliceReader
    from align.lit import diagnosing, environment, gradients, log, loggers, progress, watching
    from align.quickstart import write_world

    torch.set_num_threads(1)
    watch(_TrainingEpochLoop, "advance", "step")
    watch(diagnosing.Diagnosing, "_measure", SLICE)
    watch(SliceReader, "_decode", "decoding")
    watch(gradients.Gradients, "on_before_optimizer_step", "gradient norms")
    watch(watching.Watching, "_note", "spread of the batch")
    watch(watching.Watching, "on_train_batch_end", "watchers")
    watch(environment.Environment, "on_fit_start", "environment")
    watch(log.Log, "on_train_batch_end", "log")
    watch(loggers.Sent, "send", "of it: TensorBoard")
    watch(progress.Progress, "on_train_batch_end", "progress")
    batch = yaml.safe_load(Path(asked.config).read_text())["data"]["batch"]
    with tempfile.TemporaryDirectory() as folder:
        pattern, val = asked.train, asked.val
        if pattern is None:
            write_world(Path(folder, "shards"), train=asked.objects, test=256, seed=0, workers=1)
            pattern, val = f"{folder}/shards/train-*.tar", f"{folder}/shards/test-*.tar"
        options = ["--config", asked.config, "--run", f"{folder}/run", "--data.train", pattern, "--data.val", val]
        options += ["--data.workers", "0", "--trainer.max_epochs", "-1", "--trainer.max_steps", str(asked.steps)]
        code = parse([*options, "--trainer.val_check_interval", str(asked.steps), "--diagnose.every_steps", "50"])
    during = calls[SLICE] - 1  # the measure of step 0 is before the steps
    measure = (seconds[SLICE] - seconds["decoding"]) / calls[SLICE]
    step = (seconds["step"] - during * measure) / calls["step"]
    every = Diagnose().choose_steps(1, batch, 256)
    print(
        f"\n{Path(asked.config).parent.name}/{Path(asked.config).name}, torch {torch.__version__}, 1 thread: a step of"
    )
    print(f"{batch} samples takes {1000 * step:.1f} ms; a measure of 256 samples every {every} steps")
    print(f"{'part':24}{'calls':>8}{'ms a call':>11}{'share':>9}")
    shares = {}
    for name in (*DIAGNOSTICS, *OTHERS):
        each = measure if name == SLICE else seconds[name] / max(1, calls[name])
        shares[name] = measure / every / step if name == SLICE else seconds[name] / calls["step"] / step
        print(f"{name:24}{calls[name]:8}{1000 * each:11.3f}{shares[name]:9.2%}")
    print(f"{'diagnostics together':43}{sum(shares[name] for name in DIAGNOSTICS):9.2%}   (bar 1 %)")
    print(f"a run also decodes the slice ({seconds['decoding']:.2f} s) and notes its environment", end=" ")
    print(f"({seconds['environment']:.2f} s)")
    return code


if __name__ == "__main__":
    sys.exit(main())

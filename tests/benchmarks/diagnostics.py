"""Share of a run's time that its diagnostics, alarms, log and progress take, at their defaults.

    python tests/benchmarks/diagnostics.py                       # the quickstart's world, 300 steps
    python tests/benchmarks/diagnostics.py --config configs/digits.yaml --train 'shards/train-*.tar' \\
        --val 'shards/test-*.tar' --steps 200

The calls of each callback are timed inside one run, in CPU seconds of the process, so other work on the machine does
not count. The run decodes in the same process (``data.workers 0``). The bar for diagnostics with alarms, and that for
the log, is 1 %.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(HERE / "align/quickstart/config.yaml"))
    parser.add_argument("--train")
    parser.add_argument("--val")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--objects", type=int, default=1000, help="of the quickstart's world")
    asked = parser.parse_args()

    import torch

    from align.commands import train
    from align.lit import diagnosing, environment, fit, gradients, log, loggers, progress, watching
    from align.lit import fit as run_fit
    from align.quickstart import write_world

    torch.set_num_threads(1)
    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def watch(owner: Any, method: str, name: str) -> None:
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

    watch(diagnosing.Diagnosing, "_measure", "measures of the slice")
    watch(gradients.Gradients, "on_before_optimizer_step", "gradient norms")
    watch(watching.Watching, "_note", "spread of the batch")
    watch(watching.Watching, "on_train_batch_end", "alarms")
    watch(environment.Environment, "on_fit_start", "environment")
    watch(log.Log, "on_train_batch_end", "log")
    watch(loggers.Sent, "send", "of it: TensorBoard")
    watch(progress.Progress, "on_train_batch_end", "progress")
    total = [0.0]

    def timed_fit(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return run_fit(*args, **kwargs)
        finally:
            total[0] += time.process_time() - begin

    import align.lit

    align.lit.fit = timed_fit  # pyright: ignore[reportAttributeAccessIssue]
    assert fit is run_fit
    with tempfile.TemporaryDirectory() as folder:
        pattern, val = asked.train, asked.val
        if pattern is None:
            write_world(Path(folder, "shards"), train=asked.objects, test=200, seed=0, workers=1)
            pattern, val = f"{folder}/shards/train-*.tar", f"{folder}/shards/test-*.tar"
        options = ["--config", asked.config, "--run", f"{folder}/run", "--data.train", pattern, "--data.workers", "0"]
        options += ["--trainer.max_epochs", "-1", "--trainer.max_steps", str(asked.steps)]
        code = train.parse([*options, *(["--data.val", val] if val else [])])
    print(f"\n{asked.config}: {asked.steps} steps in {total[0]:.1f} CPU-s, torch {torch.__version__}, 1 thread")
    print(f"{'part':24}{'calls':>8}{'CPU s':>10}{'share':>9}")
    for name in ("measures of the slice", "gradient norms", "spread of the batch", "alarms"):
        print(f"{name:24}{calls[name]:8}{seconds[name]:10.3f}{seconds[name] / total[0]:9.2%}")
    diagnostics = sum(seconds[n] for n in ("measures of the slice", "gradient norms", "spread of the batch", "alarms"))
    print(f"{'diagnostics':24}{'':8}{diagnostics:10.3f}{diagnostics / total[0]:9.2%}   (bar 1 %)")
    for name in ("log", "of it: TensorBoard", "progress", "environment"):
        print(f"{name:24}{calls[name]:8}{seconds[name]:10.3f}{seconds[name] / total[0]:9.2%}")
    return code


if __name__ == "__main__":
    sys.exit(main())

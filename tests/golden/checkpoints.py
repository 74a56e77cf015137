"""Golden runs of older schemas of checkpoints: stopped after 4 of 8 steps, and what their end is.

    PYTHONPATH=CHECKOUT python tests/golden/checkpoints.py OUT

CHECKOUT: a tree of align with that schema, outside of this repository. OUT: ``tests/golden/checkpoints/schema-N``. It
gets the run's checkpoints, metrics.csv and config.yaml, and expected.json: the losses of 8 steps without a stop, and
embeddings. Schema 1 was written by commit 89fee60, schema 2 by 2b853ce. Shards and config are those of `prepare`, which
the test uses too.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
RUN = ["train", "--config", "config.yaml", "--run"]


def prepare(folder: Path) -> None:
    """Write shards and a config into a folder."""
    from test_commands_train import config
    from tiny import write

    write(folder)
    write(folder, "test", 20)
    trainer = {**config["trainer"], "precision": "64-true", "max_steps": 8, "val_check_interval": 100}
    content = {**config, "trainer": trainer, "checkpoint": {"every_steps": 100}}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


def embed(folder: Path) -> dict[str, list]:
    """Return the embeddings of two fixed rows of each modality."""
    import align

    model = align.load(folder)
    given: dict[str, Any] = {
        m: [torch.arange(6.0).double().cos() * (i + 1) for i in range(2)] for m in model.modalities
    }
    return {m: x.tolist() for m, x in model.embed(**given).items()}


def losses(run: Path) -> dict[str, float]:
    """Return the loss of each step, by the step's number as JSON has it."""
    with (run / "metrics.csv").open(newline="") as f:
        return {row["step"]: float(row["loss"]) for row in csv.DictReader(f)}


def main(out: Path) -> None:
    from align.commands import main as align
    from align.lit.module import AlignModule

    before = AlignModule.training_step

    def stop(self, *args, **kwargs):
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return before(self, *args, **kwargs)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        os.chdir(folder)
        assert align([*RUN, "straight"]) == 0
        AlignModule.training_step = stop
        assert align([*RUN, "run"]) == 143
        out.mkdir(parents=True)
        for kept in ("metrics.csv", "config.yaml"):
            shutil.copy(folder / "run" / kept, out)
        shutil.copytree(folder / "run" / "checkpoints", out / "checkpoints")
        expected = {"losses": losses(folder / "straight"), "outputs": embed(out / "checkpoints" / "step-00000004")}
        (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

"""``RUN/environment.json``: an entry for each start of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L

from align.diagnostics.environment import note_start
from align.lit.module import AlignModule


class Environment(L.Callback):
    """Callback that notes a start of the run, and prints a line where the environment is another one than before."""

    def __init__(self, run: Path, module: AlignModule):
        self.run, self.module = run, module

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and (line := note_start(self.run, self.module.step, trainer.world_size)):
            print(line, file=sys.stderr, flush=True)

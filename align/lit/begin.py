"""Start of a new run with the weights of another model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from align.checkpoint import start_from
from align.lit.first import is_first
from align.lit.resume import Earlier
from align.model import JointModel
from align.objective import Objective
from align.optim import Optim


def take_start(
    model: JointModel, objective: Objective, start: str | None, run: Path | None, earlier: Earlier
) -> dict[str, str]:
    """Put the weights of ``start`` into the model of a new run, and print a line for each of its parts.

    A run with a checkpoint takes its weights from that. A line says that ``start`` is not read.

    Returns part -> the model that its weights come from. Raises FileNotFoundError and ValueError as `start_from` does.
    """
    if start is None:
        return {}
    if earlier.folder is not None:
        taken, lines = {}, [f"{run} goes on from step {earlier.step}; start {start} is not read (--fresh begins anew)"]
    else:
        taken, lines = start_from(model, objective, start)
    print_lines(lines)
    return taken


def scale_optim(optim: Optim, batch: int) -> Optim:
    """Return the settings with the learning rate of this batch, and print a line where that is another rate."""
    scaled = optim.for_batch(batch)
    if optim.lr_batch is not None:
        lines = [
            f"the learning rate {optim.lr:.3g} is stated for a batch of {optim.lr_batch:,}; "
            f"a batch of {batch:,} has {scaled.lr:.3g} (optim.lr_rule {optim.lr_rule})"
        ]
        print_lines(lines)
    return scaled


def print_lines(lines: Sequence[str]) -> None:
    """Print lines to stderr, on the first rank alone."""
    for line in lines if is_first() else ():
        print(line, file=sys.stderr)

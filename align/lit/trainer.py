"""Lightning's Trainer as a run uses it: in steps, silent, with its loggers and nothing else of its own."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException

from align.lit.precision import choose_precision
from align.lit.sharding import make_strategy, spread

NOISE = (
    ".*LeafSpec.*",  # Lightning 2.6 uses what torch 2.11 and later deprecate
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec.*",
    "The number of training batches.*smaller than the logging interval.*",
    ".*tensorboard.*",
    ".*Trying to infer the `batch_size`.*",
    "Found .* in eval mode at the start of training.*",  # batch norms of others, on purpose
)


def count_steps(options: dict[str, Any], per_epoch: int) -> int:
    """Return the number of steps of the whole run, and take its length in epochs or steps out of `options`.

    ``val_check_interval`` becomes a number of steps. Raises ValueError where the run has no step, and for
    ``accumulate_grad_batches``, whose sum is no larger batch.
    """
    if options.get("accumulate_grad_batches", 1) != 1:
        raise ValueError(
            "accumulate_grad_batches adds up losses of small batches; take a large data.batch and chunk=64"
        )
    epochs, steps = options.pop("max_epochs", None), options.pop("max_steps", None)
    if steps is None or steps < 0:
        steps = (10 if epochs is None else epochs) * per_epoch
    elif epochs is not None and epochs >= 0:
        steps = min(steps, epochs * per_epoch)
    if steps < 1:
        raise ValueError(f"the run has no step: trainer.max_steps={steps}, trainer.max_epochs={epochs}")
    interval = options.pop("val_check_interval", None)
    interval = 1.0 if interval is None else interval
    every = interval if isinstance(interval, int) else math.ceil(interval * per_epoch)
    options["val_check_interval"] = max(1, min(every, steps))
    return steps


def make_trainer(options: dict[str, Any], *, steps: int, validates: bool, callbacks: list[L.Callback]) -> L.Trainer:
    """Return Lightning's Trainer with a config's options, for a run that counts steps and logs and saves by itself.

    Raises ValueError for options that Lightning refuses, such as a device that this machine lacks.
    """
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = {k: v for k, v in options.items() if v is not None}
    options.setdefault("precision", "32-true")  # never what a machine is fastest in: scores would depend on it
    if "strategy" in options:
        options["strategy"] = make_strategy(options["strategy"], options["precision"])
    options["logger"] = options.get("logger") or False
    options |= {
        "max_steps": steps,
        "max_epochs": -1,  # one endless stream: a run counts steps, its loader knows the epochs
        "check_val_every_n_epoch": None,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "callbacks": [*callbacks, *(options.get("callbacks") or [])],
    }
    if not validates:
        options["limit_val_batches"] = 0
    try:
        trainer = L.Trainer(**choose_precision(options))
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())}") from error
    spread(trainer)
    return trainer


@contextmanager
def silence() -> Iterator[None]:
    """Hide Lightning's warnings about settings that a run chooses on purpose, inside the block."""
    with warnings.catch_warnings():
        for text in NOISE:
            warnings.filterwarnings("ignore", message=text)
        yield

"""Changes of the config since a run's last start, each with its meaning for the steps that follow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import yaml

from align.files import atomic_write

FREE = (
    "data.members",
    "data.mix.weights",
    "data.train",
    "data.val",
    "data.views",
    "model.share",
    "model.tied",
    "model.towers",
    "negatives",
    "objective.terms",
    "optim.groups",
    "stages",
    "tuning.lora",
)
"""Keys whose keys are names of the user's: one that is new there is a change. Elsewhere it is of a newer align."""

UNSAID = ("config", "run", "fresh", "fork", "start", "dry_run", "print_config")

MEANINGS: Mapping[str, str] = {
    "seed": "the order of samples, augmentation and dropout follow from another seed from here on",
    "data.train*.weight": "the mixture of the sources is another from here on",
    "data.train*.preprocess*": "the samples of this source are read in another way from here on",
    "data.train*": "the next steps have other samples, or these in another order",
    "data.val*": "scores of validations from here on are of another set; do not compare them with those before",
    "data.batch": "a step has another number of samples, so an epoch has another number of steps",
    "data.workers": "no number changes",
    "data.views*": "a sample has another number of rows of this modality from here on",
    "data.keep": "no number changes",
    "data.max_bad": "the run stops at another share of bad samples",
    "data.members": "other members are read from here on",
    "data.streams": "the samples come in another order from here on",
    "data.block": "the samples come in another order from here on",
    "data.mix.losses_every": "the losses by source are logged in other steps",
    "data.mix*": "the mixture of the sources is another from here on",
    "data.resampled": "the samples are drawn in another way from here on",
    "data.samples": "an epoch has another number of samples",
    "data.allow_pipe": "no number changes",
    "optim.lr": "the rate of the next step is {rate:.4g}",
    "optim.warmup": "the rate of the next step is {rate:.4g}",
    "optim.final": "the rate of the next step is {rate:.4g}, and the last one's is another",
    "optim.schedule*": "the rate of the next step is {rate:.4g}",
    "optim.replan": "it counts where a trained run gets more steps",
    "optim.clip": "gradients are clipped at another norm from here on",
    "optim.weight_decay": "weights decay at another rate from here on",
    "optim.groups*": "the parameters of this pattern have other settings from here on; the optimiser's state stays",
    "optim.optimizer": "the same optimiser goes on, with its state",
    "optim*": "the optimiser has other settings from here on, and keeps its state",
    "objective.terms*.weight": "the loss is another sum from here on; do not compare it with the values before",
    "objective*": "the loss is another one from here on; do not compare it with the values before",
    "model.towers*.preprocess*": "the tower keeps its weights and reads another input from here on",
    "model*": "the model is computed in another way from here on, with the weights of the checkpoint",
    "tuning*": "other parts train from here on; a part that trains anew has no optimiser state yet",
    "stages*": "the stages that are left follow the new list, and those that have ended stay as they were",
    "negatives*": "the negatives of the next steps follow the new list",
    "mixup*": "the loss is another sum from here on; do not compare it with the values before",
    "chunk": "towers read another number of rows at a time; a step is equal up to rounding",
    "compute*": "towers are computed in another way; a step is equal up to rounding",
    "trainer.max_steps": "the run ends at step {steps}",
    "trainer.max_epochs": "the run ends at step {steps}",
    "trainer.max_time": "the run may end at another time",
    "trainer.precision": "the next steps are computed in another precision, and their bits differ",
    "trainer.deterministic": "the last bits of the next steps may differ",
    "trainer.benchmark": "the last bits of the next steps may differ",
    "trainer.accelerator": "the samples are the same; the last bits of the next steps differ",
    "trainer.devices": "the samples are the same; another number of ranks sums them in another order",
    "trainer.num_nodes": "the samples are the same; another number of ranks sums them in another order",
    "trainer.strategy": "the samples are the same; the last bits of the next steps may differ",
    "trainer.val_check_interval": "validations come at other steps",
    "trainer.limit_val_batches": "a validation has another number of batches; do not compare it with those before",
    "trainer.limit_train_batches": "the run may end at another step",
    "trainer*": "Lightning's trainer has another setting; the samples are the same",
    "checkpoint.monitor": "the best checkpoint is chosen anew, by another value",
    "checkpoint.mode": "the best checkpoint is chosen the other way round from here on",
    "checkpoint*": "checkpoints are written, or stay, at other times; no number changes",
    "validate*": "evaluators run at other steps, or others do; no step changes",
    "guard*": "the run stops at other failures; no good step changes",
    "diagnose*": "other measures are taken; no step changes",
    "early_stopping*": "the run may end at another step",
}
"""Pattern of keys -> their meaning, the first that fits."""


class Change(NamedTuple):
    """A key with the values that it had and has. None: it was not there, or is gone."""

    key: str
    was: Any
    now: Any


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[Change]:
    """Yield the changes between two configs. A class that is another one is one change, with all of its arguments."""
    free = any(fnmatchcase(at, name) or at.startswith(f"{name}.") for name in FREE)
    for name in dict.fromkeys([*before, *now]):
        key = f"{at}.{name}".removeprefix(".")
        if key in UNSAID or (not free and (name not in now or name not in before)):
            continue
        was, is_now = before.get(name), now.get(name)
        if was == is_now and name in now and name in before:
            continue
        if isinstance(was, dict) and isinstance(is_now, dict):
            kinds = was.get("class_path"), is_now.get("class_path")
            if kinds[0] == kinds[1]:
                yield from list_changes(was, is_now, key)
            else:
                yield Change(key, kinds[0] or was, kinds[1] or is_now)
        else:
            yield Change(key, was, is_now)


def describe(change: Change, steps: int, rate: float) -> str:
    """Return the line about a change. steps: of the whole run. rate: of the next step."""
    key, was, now = change
    meaning = next(text for pattern, text in MEANINGS.items() if fnmatchcase(key, pattern))
    if was is None and "." in key and isinstance(now, dict):
        said = f"{key} is new"
    elif now is None and isinstance(was, dict):
        said = f"{key} is gone"
    else:
        said = f"{key} was {_short(was)}, is {_short(now)}"
    return f"{said}: {meaning.format(rate=rate, steps=steps)}"


def read_changes(run: Path, config: str | None) -> list[Change]:
    """Return the changes of a config since the last start of the run. []: no config, or the run folder has none.

    config: the text of the present one.
    """
    path = run / "config.yaml"
    if config is None or not path.is_file():
        return []
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        print(f"{path} is damaged: the changes since the last start are not known", file=sys.stderr)
        return []
    now = yaml.safe_load(config)
    return list(list_changes(before, now)) if isinstance(before, dict) and isinstance(now, dict) else []


class NoteConfig(L.Callback):
    """Writer of RUN/config.yaml, once the checkpoint is loaded, and of a line for each change since the last start.

    A config that the checkpoint does not fit is refused before, and leaves the file as it is.
    """

    def __init__(self, run: Path, config: str | None, lines: Sequence[str]):
        self.run, self.config, self.lines = run, config, lines

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for line in self.lines:
            print(line, file=sys.stderr, flush=True)
        if self.config is not None:
            with atomic_write(self.run / "config.yaml") as f:
                f.write(self.config.encode())


def _short(value: Any) -> str:
    """Return a value in at most 60 characters."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Training by a config, in the process of a script: it saves the start of many commands.

A run is that of `align train` without validation, checkpoints and logs: the model, objective, data and optimiser of
configs/ideas/NAME.yaml, with the options of an arm on top, for `trainer.max_steps` steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from compare import HERE, Arms
from sets import find_shards

from align.commands.config import make_parser
from align.data import Loader
from align.seeds import derive, generator, seed_default

Stages = Sequence[tuple[int, Mapping[str, float]]]
"""(last step, weights of the terms until it), in order. (): all terms at their weights."""


@cache
def parser() -> Any:
    """Return the parser of a config."""
    return make_parser()


def build(name: str, options: Sequence[str], seed: int) -> tuple[Any, Any]:
    """Return a config as it is read with options, and what it makes."""
    read = parser().parse_args(["--config", str(HERE / f"{name}.yaml"), "--run", "runs/x", f"--seed={seed}", *options])
    return read, parser().instantiate(read)


def train(name: str, options: Sequence[str], seed: int, stages: Stages = ()) -> Any:
    """Return the trained model of a config with an arm's options."""
    torch.manual_seed(derive(seed, "weights"))
    read, made = build(name, options, seed)
    for used in re.findall(r"shards/(\w+)/", str(read.data)):
        find_shards(used, "train")  # makes them where they are missing
    steps, model, objective, optim = read.trainer.max_steps, made.model, made.objective, made.optim
    data = made.data.open(model, seed)
    more = {"batch": data.batch, "seed": seed, "steps": steps, "keep": 1 << 29, "views": data.views}
    if objective.needs_labels:
        objective.name_classes(data.train.classes)
    optimizer = optim.build(model, objective)
    for step, batch in enumerate(Loader(data.train, model.preprocess, train=True, **more)):
        objective.weigh(next((weights for until, weights in stages if step < until), None))
        optim.set_rates(optimizer, step, steps)
        seed_default(seed, step, "dropout", 0)
        draws = {m: generator(seed, step, m, 0) for m in model.modalities}
        embeddings = model(batch, generators=draws, tokens=objective.tokens)
        loss, _ = objective(embeddings, generator=generator(seed, step, "loss"))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *objective.parameters()], optim.clip or torch.inf)
        optimizer.step()
        objective.clamp_()
    model.terms = objective.infos()
    return model.eval()


def train_arms(
    name: str, arms: Mapping[str, tuple[Sequence[str], Stages]], score: Callable[[Any], Mapping[str, float]]
) -> Callable[[int], Arms]:
    """Return the arms of a config for each seed. arms: arm -> options and stages. score: measures a trained model."""
    return lambda seed: {
        arm: lambda given=given: score(train(name, given[0], seed, given[1])) for arm, given in arms.items()
    }

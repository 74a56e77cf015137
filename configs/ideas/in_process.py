"""Arms of several ideas, trained and measured in one process.

    python configs/ideas/in_process.py streams sources views     # writes configs/ideas/results/NAME.csv
    python configs/ideas/run.py streams sources views --table    # prints the figures of those files

A run is that of `align train` without validation, checkpoints and logs: the model, objective, data and optimiser of
configs/ideas/NAME.yaml, with the options of an arm on top, for `trainer.max_steps` steps. NAME.py has the arms, and
`score`, which measures a trained model on the test split. A machine that is shared saves the start of many commands.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from run import HERE, SETS, Row, table, write_rows

from align.commands.config import make_parser
from align.data import Loader, Shards
from align.seeds import derive, generator, seed_default
from align.values import Sample

Stages = Sequence[tuple[int, Mapping[str, float]]]
"""(last step, weights of the terms until it), in order. (): all terms at their weights."""


@cache
def parser() -> Any:
    """Return the parser of a config."""
    return make_parser()


def train(name: str, options: Sequence[str], seed: int, stages: Stages = ()) -> Any:
    """Return the trained model of a config with an arm's options."""
    torch.manual_seed(derive(seed, "weights"))
    read = parser().parse_args(["--config", str(HERE / f"{name}.yaml"), "--run", "runs/x", f"--seed={seed}", *options])
    steps, made = read.trainer.max_steps, parser().instantiate(read)
    model, objective, optim = made.model, made.objective, made.optim
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


@cache
def read_test(data: str) -> list[Sample]:
    """Return the samples of the test split of a set of `SETS`, which is made where it is not there yet."""
    folder = Path("shards", data)
    if not (folder / "manifest.json").is_file():
        SETS[data](folder)
    shards = Shards([str(path) for path in sorted(folder.glob("test-*.tar"))], shuffle=False)
    return [shards.read(i)[0] for i in range(len(shards))]


def find_member(sample: Sample, modality: str) -> Any:
    """Return the content of a sample's plain member of a modality."""
    return next(content for name, content in sample.items() if name.split(".")[0] == modality)


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("names", nargs="+", metavar="NAME")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = asked.parse_args()
    for name in given.names:
        idea, rows = import_module(name), []
        for seed in given.seeds:
            for arm, (options, stages) in idea.ARMS.items():
                begin = time.monotonic()
                model = train(name, options, seed, stages)
                seconds = round(time.monotonic() - begin, 1)
                found = idea.score(model)
                rows += [Row(arm, seed, score, value, seconds) for score, value in found.items()]
                print(name, arm, seed, seconds, found, file=sys.stderr, flush=True)
        write_rows(HERE / "results" / f"{name}.csv", rows)
        print("\n".join([name, *table(rows)]), flush=True)


if __name__ == "__main__":
    main()

"""Three attentions of the last block, over one trained model a seed: classes told by place, phrases pointed at.

    python configs/ideas/dense.py [--seeds 0 1 2]         # trains dense.yaml and writes results/dense.csv
    python configs/ideas/run.py dense --table             # prints its figures

All seeds are trained in one process, by the model, objective and optimiser of the config, without validation. Short
captions, which no term reads, are left out.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from run import HERE, Row, table, write_rows

from align import evaluate
from align.commands.config import make_parser
from align.data import Loader, Shards
from align.evaluation import Dense
from align.seeds import derive, generator

ARMS = ("plain", "value", "self")
SCORES = ("dense/image/color/miou", "dense/image/shape/miou", "dense/image/pointing/accuracy")


def train(seed: int) -> tuple[Any, float]:
    """Return a trained model, and the seconds of its training."""
    begin, parser = time.monotonic(), make_parser()
    torch.manual_seed(derive(seed, "weights"))
    read = parser.parse_args(["--config", str(HERE / "dense.yaml"), "--run", "runs/x", f"--seed={seed}"])
    made, steps = parser.instantiate(read), read.trainer.max_steps
    data, optimizer = made.data.open(made.model, seed), made.optim.build(made.model, made.objective)
    readers = {m: made.model.preprocess[m] for m in sorted(made.objective.count_in())}
    batches = Loader(data.train, readers, train=True, batch=data.batch, seed=seed, steps=steps)
    for step, batch in enumerate(batches):
        made.optim.set_rates(optimizer, step, steps)
        draws = {m: generator(seed, step, m, 0) for m in made.model.modalities}
        loss, _ = made.objective(made.model(batch, generators=draws), generator=generator(seed, step, "loss"))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.model.parameters(), made.optim.clip or torch.inf)
        optimizer.step()
        made.objective.clamp_()
        if step % 20 == 0:
            print(f"seed {seed} step {step} loss {loss.item():.3f}", flush=True)
    return made.model.eval(), time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    test, rows = Shards("shards/scenes/test-*.tar", shuffle=False), []
    for seed in parser.parse_args().seeds:
        scores: dict[str, float] = {}
        model, seconds = train(seed)
        for arm in ARMS:
            measure = Dense(arm, masks={"image": "mask.png"})
            scores = evaluate(model, test, with_=[measure], draws=0).scores
            rows += [Row(arm, seed, score, scores[score], round(seconds, 1)) for score in SCORES]
        chances = ((score, scores[score.rpartition("/")[0] + "/chance"]) for score in SCORES)
        rows += [Row("chance", seed, score, chance, 0.0) for score, chance in chances]
        write_rows(HERE / "results" / "dense.csv", rows)
    print("\n".join(["dense", *table(rows)]))


if __name__ == "__main__":
    main()

"""Heads of an idea against dense ones, trained on the frozen features of small towers.

    python configs/ideas/heads.py NAME ...          # trains, evaluates, writes configs/ideas/results/NAME.csv

The heads, the objective and the arms are those of ``NAME.yaml`` and ``arms/NAME.yaml``. One pair of towers
with ``Linear`` heads is trained from scratch (the towers of codebook.yaml, InfoNCE, 250 steps), its features and tokens
are kept, and each arm trains its heads alone on them, with every seed. So an arm takes seconds.
Recall is of groups: a text that fits several pictures counts for all of them. Words are the values of all attributes,
see ``align.evaluation.Codes``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from run import HERE, Row, read_arms, table, write_rows

from align import Features, JointModel
from align.commands.config import make_parser
from align.data import Loader, Shards
from align.evaluation.codes import cluster, match_words
from align.evaluation.labels import attributes, memberships, values_of
from align.metrics import ranks, recall_at
from align.values import Batch, Embeddings, Rows

LINEAR = [f"--model.towers.{m}.head=align.heads.Linear" for m in ("image", "text")]


def read_split(shards: str, split: str, preprocess: dict[str, Any]) -> Batch:
    """Return all samples of a split as one batch."""
    source = Shards(f"shards/{shards}/{split}-*.tar", shuffle=False)
    return next(iter(Loader(source, preprocess, batch=len(source), workers=0, train=False)))


def make(name: str, seed: int, options: list[str]) -> tuple[Any, Any]:
    """Return the asked config and what it makes, with the random numbers of a seed."""
    parser = make_parser()
    given = ["--config", str(HERE / f"{name}.yaml"), "--run", "runs/x", f"--seed={seed}", *options]
    torch.manual_seed(seed)
    asked = parser.parse_args(given)
    return asked, parser.instantiate(asked)


def rows_of(batch: Batch, m: str, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows (r,) of the samples at places (b,), and their numbers among these, ascending."""
    number = torch.full((batch.size,), -1)
    number[places] = torch.arange(len(places))
    sample = number[batch[m].sample]
    order = sample.argsort(stable=True)[int((sample < 0).sum()) :]
    return order, sample[order]


def pick(features: Features, rows: torch.Tensor) -> Features:
    return Features(*(None if x is None else x[rows] for x in features))


def train(
    embed: Callable[[str, torch.Tensor], torch.Tensor],
    parts: list[Any],
    objective: Any,
    batch: Batch,
    asked: Any,
    steps: int,
) -> None:
    """Train with AdamW and a cosine to zero. embed: returns the embeddings of a modality's rows."""
    parameters = [p for part in (*parts, objective) for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, asked.optim.lr, weight_decay=asked.optim.weight_decay, fused=True)
    draw = torch.Generator().manual_seed(int(asked.seed))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = asked.optim.lr * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        places = torch.randperm(batch.size, generator=draw)[: asked.data.batch]
        rows = {}
        for m in batch:
            order, sample = rows_of(batch, m, places)
            rows[m] = Rows(F.normalize(embed(m, order), dim=1, eps=1e-6), sample)
        group = None if batch.group is None else batch.group[places]
        given = Embeddings(rows, [batch.ids[i] for i in places.tolist()], batch.position[places], group=group)
        loss, _ = objective(given, generator=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.clamp_()


def read_features(model: JointModel, batch: Batch) -> dict[str, Features]:
    with torch.no_grad():
        return {m: tower.eval().features(batch[m].values) for m, tower in model.towers.items()}


def score(model: JointModel, batch: Batch, features: dict[str, Features], seed: int) -> dict[str, float]:
    """Return recall and the scores of the codes on the test split."""
    found, unit, codes = {}, {}, {}
    for m, tower in model.towers.items():
        head = tower.head.eval()
        with torch.no_grad():
            unit[m] = F.normalize(head(features[m]), dim=1, eps=1e-6)
            codes[m] = head.weigh(features[m]) if tower.has_codes else None
    assert batch.group is not None
    group = {m: batch.group[batch[m].sample] for m in batch}
    hits = group["image"][:, None] == group["text"]
    for k in (1, 10):
        found[f"image_to_text/recall@{k}"] = recall_at(ranks(unit["image"] @ unit["text"].T, hits), k)
    words = [
        (a, str(v))
        for a in attributes(batch.labels)
        for v in sorted({v for x in batch.labels for v in values_of(x, a)})
    ]
    members = torch.cat(
        [memberships(batch.labels, a, [w for b, w in words if b == a]) for a in attributes(batch.labels)], 1
    )
    for m in batch:
        dense = codes[m] is None
        values = cluster(unit[m], 64, seed) if dense else codes[m].float()
        found[f"codes/{m}/nonzeros"] = float(unit[m].shape[1] if dense else (values > 0).sum(1).double().mean())
        found[f"codes/{m}/live"] = float(unit[m].shape[1] if dense else (values > 0).any(0).sum())
        told = match_words(values, members[batch[m].sample], words, batch[m].sample % 2 == 0)
        found[f"codes/{m}/word_ap"] = sum(word.ap for word in told) / len(told)
    return found


def prepare() -> tuple[dict[str, Batch], dict[str, dict[str, Features]]]:
    """Train the towers, and return the splits and their features."""
    asked, base = make("codebook", 0, ["--model.tied=null", *LINEAR])
    splits = {split: read_split("solids", split, base.model.preprocess) for split in ("train", "test")}
    towers, first = base.model.train().towers, splits["train"]
    train(lambda m, rows: towers[m](first[m].values[rows]), [base.model], base.objective, first, asked, 250)
    return splits, {split: read_features(base.model, batch) for split, batch in splits.items()}


def measure(
    name: str, seed: int, steps: int, splits: dict[str, Batch], kept: dict[str, dict[str, Features]]
) -> Iterator[Row]:
    """Yield the scores of each arm of an idea with one seed."""
    arms = read_arms(name)
    for arm, options in arms["arms"].items():
        asked, made = make(name, seed, list(map(str, options)))
        batches, features = dict(splits), {split: dict(read) for split, read in kept.items()}
        if not any(True for _ in made.model.towers["text"].encoder.parameters()):  # an explicit side
            for split in splits:
                batches[split] = read_split("solids", split, made.model.preprocess)
                features[split]["text"] = Features(batches[split]["text"].values)
        heads = {m: tower.head.train() for m, tower in made.model.towers.items()}
        read, begin = features["train"], time.monotonic()
        train(
            lambda m, rows, heads=heads, read=read: heads[m](pick(read[m], rows)),
            list(heads.values()),
            made.objective,
            batches["train"],
            asked,
            steps,
        )
        seconds = round(time.monotonic() - begin, 1)
        found = score(made.model, batches["test"], features["test"], seed)
        yield from (Row(arm, seed, key, found[key], seconds) for key in arms["scores"])
        print(f"{name} {arm} {seed}: {seconds} s", *(f"{found[key]:.3f}" for key in arms["scores"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[Row]] = {name: [] for name in asked.names}
    splits, kept = prepare()
    for name in asked.names:
        for seed in asked.seeds:
            rows[name] += measure(name, seed, asked.steps, splits, kept)
            write_rows(HERE / "results" / f"{name}.csv", rows[name])
    for name in asked.names:
        print("\n".join([name, *table(rows[name])]), flush=True)


if __name__ == "__main__":
    main()

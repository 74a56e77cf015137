"""Heads of an idea against dense ones, trained on the frozen features of small towers.

    python configs/ideas/heads.py codebook binary lexical concepts   # 2 cores, 1 thread: 6 min a seed for all four

The heads, the objective and the arms are those of ``NAME.yaml`` and ``arms/NAME.yaml``. One pair of towers
with ``Linear`` heads is trained from scratch (the towers of codebook.yaml, InfoNCE, 250 steps), its features and tokens
are kept, and each arm trains its heads alone on them, with every seed. So an arm takes seconds.
Recall is of groups: a text that fits several pictures counts for all of them. Words are the values of all attributes,
see ``align.evaluation.Codes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from compare import Arms, finish, make_parser, run_arms, show
from fit import draw, take
from in_process import build
from run import read_arms
from sets import open_set

from align import Features, JointModel
from align.data import Loader
from align.evaluation.codes import cluster, match_words
from align.evaluation.labels import attributes, memberships, values_of
from align.metrics import ranks, recall_at
from align.values import Batch, Embeddings, Rows

TOWER_STEPS, STEPS = 250, 200
LINEAR = [f"--model.towers.{m}.head=align.heads.Linear" for m in ("image", "text")]


def read_split(split: str, preprocess: dict[str, Any]) -> Batch:
    """Return all samples of a split of solids as one batch."""
    source = open_set("solids", split)
    return next(iter(Loader(source, preprocess, batch=len(source), workers=0, train=False)))


def make(name: str, seed: int, options: list[str]) -> tuple[Any, Any]:
    """Return the asked config and what it makes, with the random numbers of a seed."""
    torch.manual_seed(seed)
    return build(name, options, seed)


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
    draws = torch.Generator().manual_seed(int(asked.seed))
    numbers = replace(batch, rows={m: Rows(torch.arange(len(rows.sample)), rows.sample) for m, rows in batch.items()})
    for step, places in enumerate(draw(batch.size, asked.data.batch, steps, draws)):
        for group in optimizer.param_groups:
            group["lr"] = asked.optim.lr * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        some = take(numbers, places)
        rows = {m: Rows(F.normalize(embed(m, n.values), dim=1, eps=1e-6), n.sample) for m, n in some.items()}
        given = Embeddings(rows, some.ids, some.position, group=some.group)
        loss, _ = objective(given, generator=draws)
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


@cache
def prepare() -> tuple[dict[str, Batch], dict[str, dict[str, Features]]]:
    """Train the towers, and return the splits and their features."""
    asked, base = make("codebook", 0, ["--model.tied=null", *LINEAR])
    splits = {split: read_split(split, base.model.preprocess) for split in ("train", "test")}
    towers, first = base.model.train().towers, splits["train"]
    train(lambda m, rows: towers[m](first[m].values[rows]), [base.model], base.objective, first, asked, TOWER_STEPS)
    return splits, {split: read_features(base.model, batch) for split, batch in splits.items()}


def list_arms(name: str, seed: int) -> Arms:
    """Return the arms of an idea with one seed."""
    asked_arms, (splits, kept) = read_arms(name), prepare()

    def learn(options: list[Any]) -> dict[str, float]:
        asked, made = make(name, seed, list(map(str, options)))
        batches, features = dict(splits), {split: dict(read) for split, read in kept.items()}
        if not any(True for _ in made.model.towers["text"].encoder.parameters()):  # an explicit side
            for split in splits:
                batches[split] = read_split(split, made.model.preprocess)
                features[split]["text"] = Features(batches[split]["text"].values)
        heads, read = {m: tower.head.train() for m, tower in made.model.towers.items()}, features["train"]
        parts = list(heads.values())
        train(lambda m, rows: heads[m](pick(read[m], rows)), parts, made.objective, batches["train"], asked, STEPS)
        found = score(made.model, batches["test"], features["test"], seed)
        return {key: found[key] for key in asked_arms["scores"]}

    return {arm: lambda options=options: learn(options) for arm, options in asked_arms["arms"].items()}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="codebook, binary, lexical or concepts")
    asked = parser.parse_args()
    if asked.table:
        return show(asked.names)
    torch.set_num_threads(1)
    for name in asked.names:
        rows = [row for seed in asked.seeds for row in run_arms(seed, list_arms(name, seed))]
        finish({name: rows}, asked.seeds)
    return None


if __name__ == "__main__":
    main()

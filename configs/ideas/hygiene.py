"""TREC files, cut galleries, choices and drift, on checkpoints of three runs.

    python configs/ideas/hygiene.py              # 2 cores, 1 thread: 3 min; writes results/trec.csv, gallery.csv,
                                                 # choices.csv and drift.csv

Runs of hygiene.yaml with the seeds 0, 1 and 2 are trained where runs/ideas/hygiene/SEED is not there: one seed is
compared with models of the others.

Solids: 2,000 to train on, 400 to test on. Checkpoints are of 40, 80, 120 and 160 steps.

trec: mean average precision by ``retrieval``, and by its files as trec_eval scores them. gallery: the full gallery has
400 candidates, a cut one the hit and 10 others, the hardest by a model of another seed or drawn ones. Eight models are
put in an order by MRR, the checkpoints of the two seeds that did not cut. choices: after 40 and after 160 steps. drift:
from 40 and from 120 steps to 160, and from the last checkpoint of another seed.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import torch
from compare import HERE, SEEDS, Row, compare
from run import run
from sets import find_shards, open_set
from torch import Tensor

from align import load
from align.evaluation import Choices, Retrieval, Space
from align.evaluation.directions import Direction, list_directions
from align.evaluation.drift import measure, pair
from align.evaluation.hard_negatives import find_hardest, rank_both
from align.evaluation.probe.statistics import spearman
from align.evaluation.ranking import HitMetrics, score_queries
from align.evaluation.trec import Trec, read_qrels, read_run, score_run
from align.metrics.agreement import kendall
from align.seeds import generator

STEPS, NEGATIVES = (40, 80, 120, 160), 10
RUNS = Path("runs/ideas/hygiene")
WAYS = ("image_to_points", "image_to_text")


@cache
def open_spaces(seed: int) -> dict[int, Space]:
    """Return step -> the space of a checkpoint. The run is trained where it is not there."""
    folder = RUNS / str(seed)
    if not (folder / "model").is_dir():
        find_shards("solids", "train")  # makes them where they are missing
        run(["train", "--config", str(HERE / "hygiene.yaml"), "--run", str(folder), f"--seed={seed}", "--fresh"])
    test = open_set("solids", "test")
    return {step: Space(load(folder / f"checkpoints/step-{step:08d}"), test, draws=0, hit="sample") for step in STEPS}


def list_ways(space: Space) -> dict[str, Direction]:
    """Return the directions that are measured."""
    listed = list_directions(space.table(), space.hit.rule, terms=space.model.terms)
    found = {f"{'+'.join(one.names)}_to_{one.asked.of}": one for one in listed}
    return {way: found[way] for way in WAYS}


def compare_files(seed: int) -> list[Row]:
    """Return mean average precision by our evaluator, and by the files."""
    space, folder = open_spaces(seed)[STEPS[-1]], RUNS / f"trec-{seed}"
    scores = Retrieval().run(space).scores
    Trec(folder).run(space)
    rows = []
    for way in WAYS:
        theirs = score_run(read_run(folder / f"{way}.run"), read_qrels(folder / f"{way}.qrels")).scores["map"]
        rows += [Row("ours", seed, f"{way}/map", scores[f"{way}/map"])]
        rows += [Row("files", seed, f"{way}/map", theirs)]
    return rows


def pick(one: Direction, space: Space, arm: str, seed: int) -> Tensor:
    """Return the negatives of each query, (q, 10): the hardest by the space's model, or drawn ones."""
    draw = generator("gallery", seed)
    blocks = score_queries(one.asked, one.rule, terms=space.model.terms)
    if arm == "drawn":
        blocks = (block._replace(scores=torch.rand(block.scores.shape, generator=draw)) for block in blocks)
    return find_hardest(blocks, len(one.sample), NEGATIVES)


def compare_galleries(seed: int) -> list[Row]:
    """Return the agreement over eight models and over the queries of the first, for both ways to cut."""
    rows, last = [], open_spaces(seed)[STEPS[-1]]
    others = [space for other in SEEDS if other != seed for space in open_spaces(other).values()]
    for way, one in list_ways(last).items():
        for arm in ("drawn", "hardest"):
            begin, means, first = time.process_time(), [], 0.0
            hardest = pick(one, last, arm, seed)
            for space in others[::-1]:
                theirs = list_ways(space)[way]
                both = rank_both(
                    theirs.asked, HitMetrics(theirs.rule, (1,), 10, False), hardest, terms=space.model.terms
                )
                ranks = torch.stack([part.values["mrr"].double() for part in both], dim=1)
                first = first or float(spearman(ranks, torch.ones(1, len(ranks)).double()))
                means.append(ranks.mean(dim=0))
            agreement = kendall(*torch.stack(means).T)
            seconds = round(time.process_time() - begin, 1)
            rows += [Row(arm, seed, f"{way}/models/kendall", agreement, seconds)]
            rows += [Row(arm, seed, f"{way}/queries/spearman", first, seconds)]
    return rows


def compare_choices(seed: int) -> list[Row]:
    """Return accuracies by shape after 40 and 160 steps."""
    names = ("image_to_image/2afc", "image_to_text/2afc", "image/odd", "image+points+text/odd")
    rows = []
    for step in (STEPS[0], STEPS[-1]):
        found = Choices().run(open_spaces(seed)[step]).scores
        rows += [Row(f"{step} steps", seed, f"shape/{n}", found[f"choices/shape/{n}/accuracy"]) for n in names]
    return rows


def compare_drift(seed: int) -> list[Row]:
    """Return the drift of pictures and texts."""
    spaces, rows = open_spaces(seed), []
    new, earlier = spaces[STEPS[-1]].table(), {f"from {step} steps": spaces[step] for step in (40, 120)}
    earlier["another seed"] = open_spaces((seed + 1) % len(SEEDS))[STEPS[-1]]
    for arm, space in earlier.items():
        for m in ("image", "text"):
            for metric, found in measure(pair(new, space.table(), m), 10).items():
                rows.append(Row(arm, seed, f"{m}/{metric}", found.value))
    return rows


if __name__ == "__main__":
    compare(__doc__, trec=compare_files, gallery=compare_galleries, choices=compare_choices, drift=compare_drift)

"""Three attentions of the last block, over one trained model a seed: classes told by place, phrases pointed at.

    python configs/ideas/dense.py [--seeds 0 1 2]         # trains dense.yaml and writes results/dense.csv
    python configs/ideas/run.py dense --table             # prints its figures

All seeds are trained in one process, by ``train`` of in_process.py.
"""

from __future__ import annotations

import argparse
import time

from in_process import train
from run import HERE, Row, table, write_rows

from align import evaluate
from align.data import Shards
from align.evaluation import Dense

ARMS = ("plain", "value", "self")
SCORES = ("dense/image/color/miou", "dense/image/shape/miou", "dense/image/pointing/accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    test, rows = Shards("shards/scenes/test-*.tar", shuffle=False), []
    for seed in parser.parse_args().seeds:
        scores: dict[str, float] = {}
        begin = time.monotonic()
        model = train("dense", [], seed)
        seconds = time.monotonic() - begin
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

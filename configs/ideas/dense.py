"""Three attentions of the last block, over one trained model a seed: classes told by place, phrases pointed at.

    python configs/ideas/dense.py                # 2 cores, 1 thread: 1.5 min a seed; writes results/dense.csv

The model is that of dense.yaml. Scores are mIoU of colors and of shapes, and the share of phrases that point into
their object. "chance" guesses blindly.
"""

from __future__ import annotations

from compare import Arms, compare
from in_process import train
from sets import open_set

from align import evaluate
from align.encoders.last_attention import Attention
from align.evaluation import Dense

ATTENTIONS: tuple[Attention, ...] = ("plain", "value", "self")
SCORES = ("dense/image/color/miou", "dense/image/shape/miou", "dense/image/pointing/accuracy")


def arms(seed: int) -> Arms:
    model, test, found = train("dense", [], seed), open_set("scenes", "test"), {}

    def score(arm: Attention) -> dict[str, float]:
        found.update(evaluate(model, test, with_=[Dense(arm, masks={"image": "mask.png"})], draws=0).scores)
        return {score: found[score] for score in SCORES}

    chance = {score: score.rpartition("/")[0] + "/chance" for score in SCORES}
    return {
        **{arm: lambda arm=arm: score(arm) for arm in ATTENTIONS},
        "chance": lambda: {score: found[key] for score, key in chance.items()},
    }


if __name__ == "__main__":
    compare(__doc__, dense=arms)

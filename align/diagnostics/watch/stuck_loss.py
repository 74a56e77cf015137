"""Stuck loss: it sits at the logarithm of its number of candidates, as if the embeddings said nothing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import final

from align.diagnostics.read import Alarm
from align.diagnostics.watch.glance import Glance, Term

GLANCES = 11  # the first one and 100 steps more
NEAR = 0.02  # share of the logarithm within which the mean of the losses lies
WIDE = 0.05  # and each of them
MOVED = 0.01  # share by which the second half differs from the first in a loss that only passes by
WARM = 0.5  # share of the peak learning rate at which the warm-up is over


@final
class StuckLoss:
    """Watcher of losses that are a softmax over candidates. With equal logits such a loss is the log of their number.

    Steps of a warm-up do not count. A loss over M modalities may have all tuples of the others as candidates, so M - 1
    times the logarithm counts as well.
    """

    def __init__(self) -> None:
        self.off: dict[str, deque[float]] = {}
        self.warm = False

    def look(self, glance: Glance) -> Iterator[Alarm]:
        self.warm = self.warm or glance.rate >= WARM
        for name, term in glance.terms.items():
            if not term.flat or min(term.candidates, default=0) < 4 or not self.warm:
                self.off.pop(name, None)
                continue
            chance = nearest_chance(term)
            off = self.off.setdefault(name, deque(maxlen=GLANCES))
            off.append(term.loss / chance - 1)
            if len(off) == GLANCES and is_stuck(list(off)):
                n = round(sum(term.candidates) / len(term.candidates))
                yield Alarm(
                    glance.step,
                    "stuck-loss",
                    name,
                    f"the loss of {name} has sat at {term.loss:.3f} for 100 steps, and {chance:.3f} is that of {n} "
                    f"candidates that all score the same (scale {term.scale:.3g})",
                    advise(term),
                )


def is_stuck(off: list[float]) -> bool:
    """Return True for losses that stay at the logarithm. off: by glance, loss / logarithm - 1."""
    half = len(off) // 2
    moved = sum(off[-half:]) / half - sum(off[:half]) / half
    return abs(sum(off) / len(off)) <= NEAR and max(map(abs, off)) <= WIDE and abs(moved) <= MOVED


def nearest_chance(term: Term) -> float:
    """Return the loss of equal logits: the mean log of the candidates, or M - 1 times that, whichever is nearer."""
    one = sum(map(math.log, term.candidates)) / len(term.candidates)
    return min((one, one * max(1, len(term.candidates) - 1)), key=lambda value: abs(value - term.loss))


def advise(term: Term) -> str:
    """Return the remedy. A scale below 1 / 0.07, CLIP's start, is named first."""
    name = term.name
    if term.scale < 5:
        held = "" if term.learned else " and stays there (learn_scale: false)"
        return (
            f"the scale of {name} is too small to tell cosines apart{held}: leave out start_scale, whose default "
            "trains (InfoNCE: 14.3)"
        )
    return (
        f"the scale of {name} is not too small: look whether its rows belong together (align shards show), raise "
        "optim.lr, or lower it where the loss fell before"
    )

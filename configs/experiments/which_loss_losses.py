"""The losses that which_loss.py compares, and the scores by which each finds the target."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from align.losses import ConFu, GatedSymile, Gram, InfoNCE, OneVsAll, PullToMean, SigLIP, Symile, Triangle
from align.objective import Objective, Term
from align.scoring import score

Terms = dict[str, Term]

LOSSES: dict[str, Callable[[], Terms]] = {
    "InfoNCE": lambda: {"pairs": Term(InfoNCE(), "all")},
    "SigLIP": lambda: {"pairs": Term(SigLIP(), "all")},
    "InfoNCE + pull": lambda: {"pairs": Term(InfoNCE(), "all"), "mean": Term(PullToMean(), "all", weight=0.1)},
    "Symile all": lambda: {"every": Term(Symile("all"), "all")},
    "Symile shuffled": lambda: {"every": Term(Symile("shuffled"), "all")},
    "Symile partial": lambda: {"every": Term(Symile("partial"), "all")},
    "InfoNCE + Symile": lambda: {
        "pairs": Term(InfoNCE(), "all", weight=1 / 3),
        "every": Term(Symile("partial", spread=1.0), "all"),
    },
    "GRAM": lambda: {"volume": Term(Gram(), "all")},
    "TRIANGLE": lambda: {"area": Term(Triangle(), "all")},
    "OVA-IB": lambda: {"span": Term(OneVsAll(), "all"), "mean": Term(PullToMean(), "all", weight=0.1)},
    "Gated Symile": lambda: {"every": Term(GatedSymile(), "all")},
    "ConFu": lambda: {"fused": Term(ConFu(), "all")},
    "ConFu of three": lambda: {"fused": Term(ConFu(size=3), "all")},
}
LONG = {f"{name}, long": 4 for name in ("Symile partial", "Gated Symile", "ConFu")}
"""Losses that are trained for so many times the steps."""
LOSSES |= {name: LOSSES[name.removesuffix(", long")] for name in LONG}
QUESTIONS = {
    "SigLIP": ["xor", "holes"],
    "InfoNCE + pull": ["xor", "gaussian", "holes"],
    "Symile all": ["xor"],
    "Symile shuffled": ["xor"],
    "TRIANGLE": ["xor", "gaussian", "four", "holes"],
    "ConFu": ["xor", "gaussian", "four", "holes"],
    "ConFu of three": ["four"],
    "ConFu, long": ["xor", "swapped"],
    "Symile partial, long": ["swapped"],
    "Gated Symile, long": ["swapped"],
}
"""Losses that only some questions ask for."""


def asks(question: str, loss: str) -> bool:
    """Return True where a question is asked of a loss."""
    return question in QUESTIONS.get(loss, [question])


def scores(objective: Objective, rows: dict[str, Tensor], candidates: Tensor, target: str) -> Tensor:
    """Return (q, c) scores of candidates of the target, by the trained terms; by the loss's heads where it has some."""
    for name, loss in objective.losses.items():
        names = objective.contrasts[name][0].modalities
        if isinstance(loss, ConFu):
            sets = [of for of in loss.places if target not in [names[i] for i in of]]
            fused = [loss.fuse([rows[names[i]] for i in of], of) for of in sets]
            return torch.stack(fused).sum(0) @ candidates.T
        if isinstance(loss, GatedSymile):
            return loss.score(candidates, [rows.get(m) for m in names if m != target], names.index(target))
    return score(rows, candidates, "objective", of=target, terms=objective.infos())

"""Codes that fire: the words that each code of a sparse head stands for."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.labels import memberships
from align.evaluation.space import Space
from align.metrics import average_precision
from align.page.section import Section, Table
from align.values import Embeddings, Scores


class Word(NamedTuple):
    """A word with the code that tells it best. ap: average precision on the samples that did not choose the code."""

    attribute: str
    word: str
    code: int
    ap: float
    chance: float


def match_words(codes: Tensor, members: Tensor, names: list[tuple[str, str]], half: Tensor) -> list[Word]:
    """Return the best code of each word. It is chosen on one half of the rows and measured on the other.

    codes: (n, C) weights. members: (n, W) bool, the words of each row. names: W pairs (attribute, word). half: (n,)
    bool, True for the rows that choose. A word that a half does not have, or has everywhere, is left out.
    """
    found = []
    for w, (attribute, word) in enumerate(names):
        has = members[:, w]
        if any(int(has[of].sum()) in (0, int(of.sum())) for of in (half, ~half)):
            continue
        mean = codes[half & has].double().mean(0) - codes[half & ~has].double().mean(0)  # (C,)
        few = mean.topk(min(8, len(mean))).indices.tolist()  # the codes that fire most for the word alone
        first = max(few, key=lambda c: average_precision(codes[half, c], has[half]))
        ap = average_precision(codes[~half, first], has[~half])
        found.append(Word(attribute, word, first, ap, float(has[~half].double().mean())))
    return found


def cluster(rows: Tensor, k: int, seed: int, steps: int = 20) -> Tensor:
    """Return the cosines (n, k) of rows (n, D) with k centres: k-means on the sphere (Dhillon and Modha 2001)."""
    x = F.normalize(rows.double(), dim=1)
    draw = torch.Generator().manual_seed(seed)
    centres = x[torch.randperm(len(x), generator=draw)[:k]]
    for _ in range(steps):
        nearest = (x @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        empty = torch.bincount(nearest, minlength=len(centres)) == 0
        centres = torch.where(empty[:, None], centres, F.normalize(sums, dim=1))
    return (x @ centres.T).float()


@final
class Codes:
    """Evaluator of ``codes/MODALITY/word_ap``: how well one code alone tells a word, over the values of all attributes.

    The codes are those of a head with ``weigh`` (Codebook, Lexical, Concepts). A dense head has none, and is given
    those of k-means on its rows. ``live`` counts the codes that fire for any row, ``nonzeros`` those of a row.

    k: number of centres for a dense head.
    """

    name = "codes"

    def __init__(self, k: int = 64):
        self.k = k

    def run(self, space: Space) -> Findings:
        """Return the scores of each modality, and a table of the words with their codes."""
        table = space.table("codes")
        members, names = _list_words(table, space)
        scores: Scores = {}
        notes, rows = [], []
        for m in table:
            codes, sample = vectors(table, m).float(), table[m].sample
            if not space.model.towers[m].has_codes:
                codes = cluster(codes, min(self.k, len(codes)), space.seed)
                notes.append(f"codes of {m}: cosines with {codes.shape[1]} centres of k-means, as its head has none")
            else:
                scores[f"codes/{m}/live"] = float((codes > 0).any(0).sum())
                scores[f"codes/{m}/nonzeros"] = float((codes > 0).sum(1).double().mean())
            words = match_words(codes, members[sample], names, sample % 2 == 0)
            if words:
                scores[f"codes/{m}/word_ap"] = sum(word.ap for word in words) / len(words)
                scores[f"codes/{m}/word_ap/chance"] = sum(word.chance for word in words) / len(words)
            rows += [[m, w.attribute, w.word, str(w.code), w.ap, w.chance] for w in words]
        head = ("modality", "attribute", "word", "code", "average precision", "chance")
        note = "the code is chosen on the even samples, measured on the odd ones"
        section = Section("Codes", note, [Table(head, rows, left=3)]) if rows else None
        return Findings(scores, {"notes": notes} if notes else {}, section)


def _list_words(table: Embeddings, space: Space) -> tuple[Tensor, list[tuple[str, str]]]:
    """Return (B, W) bool and the W pairs of an attribute and its value."""
    parts = [torch.zeros(table.size, 0, dtype=torch.bool)]
    names: list[tuple[str, str]] = []
    for attribute, values in space.classes.items():
        parts.append(memberships(table.labels, attribute, list(values)))
        names += [(attribute, str(value)) for value in values]
    return torch.cat(parts, 1), names

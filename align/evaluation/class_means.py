"""Classification by class means: a row is given the class whose rows of another modality have the nearest mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.findings import Findings
from align.evaluation.labels import memberships
from align.evaluation.samples import Intervals, proportion
from align.evaluation.space import Space
from align.metrics import ranks, recall_at
from align.page.section import Bar, Bars, Section
from align.values import Embeddings, Scores


class Told(NamedTuple):
    """Classes that were predicted by means. rank, sample: (q,) of the rows that count. chance: of a random guess."""

    rank: Tensor
    sample: Tensor
    chance: float
    classes: int


def tell_by_means(
    query: Tensor, query_sample: Tensor, rows: Tensor, row_sample: Tensor, members: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cosines (q, C) of queries with class means, and (q, C) bool, the classes of each query.

    A class's mean is that of its unit rows. Rows of the query's own sample are left out of it, so that a pair gives no
    answer away. A class without another row has the cosine -inf.

    query: (q, D), with the sample of each (q,). rows: (n, D), with the sample of each (n,). members: (B, C) bool.
    """
    x, y = F.normalize(query.double(), dim=1), F.normalize(rows.double(), dim=1)
    of_row = members[row_sample].double()  # (n, C)
    sums, count = of_row.T @ y, of_row.sum(dim=0)  # (C, D), (C,)
    scores = x @ F.normalize(sums, dim=1).T  # (q, C)
    scores[:, count == 0] = -torch.inf
    order = row_sample.argsort()
    starts = torch.searchsorted(row_sample[order], query_sample)
    ends = torch.searchsorted(row_sample[order], query_sample, right=True)
    for i in (ends > starts).nonzero().flatten().tolist():
        same = order[starts[i] : ends[i]]
        for k in of_row[same[0]].nonzero().flatten().tolist():  # rows of one sample have the same classes
            left = sums[k] - y[same].sum(dim=0)
            scores[i, k] = x[i] @ F.normalize(left, dim=0) if count[k] > len(same) else -torch.inf
    return scores, members[query_sample]


@final
class ClassMeans:
    """Evaluator of ``class-means/ATTRIBUTE/audio_to_points/accuracy``: a sound gets the class of the nearest mean.

    It compares two modalities by labels alone, without pairs, for every attribute and every pair of modalities.
    Scores are cosines. It is EShot's protocol (E-MM1, Encord 2025), with a query's own sample left out of the means.
    """

    name = "class-means"

    def run(self, space: Space) -> Findings:
        """Return accuracy, accuracy@5 and chance for each attribute and direction."""
        table = space.table()
        found = {
            (attribute, f"{query}_to_{of}"): told
            for attribute, names in space.classes.items()
            for query in table
            for of in table
            if query != of and (told := _tell(table, attribute, list(names), query, of)) is not None
        }
        scores: Scores = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        for (attribute, direction), told in found.items():
            prefix = f"{self.name}/{attribute}/{direction}/"
            for k in (1, 5):
                if k == 1 or k < told.classes:
                    name = prefix + ("accuracy" if k == 1 else f"accuracy@{k}")
                    scores[name] = recall_at(told.rank, k)
                    samples[name] = (((told.rank > 0) & (told.rank <= k)).float(), told.sample)
            scores[prefix + "chance"] = told.chance
        note = [] if found else ["class means are not measured: they need rows of two modalities with labels"]
        facts = {"class means": "cosine; the query's own sample is left out of the means"} if found else {"notes": note}
        statistics = dict.fromkeys(samples, proportion)
        around = space.intervals(samples, statistics)
        section = _section(scores, found, around) if found else None
        return Findings(scores, facts, section, samples, statistics, around)


def _tell(table: Embeddings, attribute: str, names: list[str], query: str, of: str) -> Told | None:
    members = memberships(table.labels, attribute, names)
    asking, asked = table[query], table[of]
    real, there = asking.sample >= 0, asked.sample >= 0
    if not bool(real.any()) or not bool(there.any()):
        return None
    scores, right = tell_by_means(
        vectors(table, query)[real], asking.sample[real], vectors(table, of)[there], asked.sample[there], members
    )
    answerable = (right & scores.isfinite()).any(dim=1)
    told = scores.isfinite().any(dim=0)  # (C,) classes with a mean
    if not bool(answerable.any()):
        return None
    scores, right = scores[answerable][:, told], right[answerable][:, told]
    chance = float(right.double().mean())
    return Told(ranks(scores.float(), right), asking.sample[real][answerable], chance, int(told.sum()))


def _section(scores: Scores, found: Mapping[tuple[str, str], Told], around: Intervals) -> Section:
    bars = []
    for attribute, direction in found:
        prefix = f"class-means/{attribute}/{direction}/"
        more = {"accuracy@5": scores[prefix + "accuracy@5"]} if prefix + "accuracy@5" in scores else {}
        bars.append(
            Bar(
                attribute,
                direction.replace("_to_", " → "),
                scores[prefix + "accuracy"],
                scores[prefix + "chance"],
                more,
                around.get(prefix + "accuracy"),
            )
        )
    return Section(
        "Class means",
        "A row is given the class whose rows of the other modality have the nearest mean. The mark on a bar is chance.",
        [Bars("Attribute", "accuracy", bars, {}, "Direction", ["accuracy@5"])],
    )

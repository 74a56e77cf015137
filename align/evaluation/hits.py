"""Hit rules. A retrieved row counts when it has the same sample, the same group, a shared label or an equal text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from align.evaluation.classes import list_attributes
from align.evaluation.labels import class_places
from align.values import Embeddings

Hit = Literal["group", "sample", "label", "caption"]
Rule = Callable[[Tensor, Tensor], Tensor]
"""(query samples (q,), candidate samples (c,)) -> (q, c) bool. Samples of -1 hit nothing."""

COMPARED = 4  # classes of a sample up to which all pairs are compared
TILE = 4096  # candidates whose classes are spread out at a time


def equal_keys(a: Tensor, b: Tensor) -> Tensor:
    """Return (q, c) bool, true where the keys a (q,) and b (c,) are equal and not below 0."""
    asks = torch.where(a >= 0, a, -2).cpu().numpy()
    answers = torch.where(b >= 0, b, -1).cpu().numpy()
    return torch.from_numpy(asks[:, None] == answers)  # numpy compares ten times faster than torch


def by_sample() -> Rule:
    """Return the rule that a hit is a row of the same sample."""
    return equal_keys


def by_group(embeddings: Embeddings) -> Rule:
    """Return the rule that a hit is a row whose sample has the same group, or without one (-1) is the same."""
    if embeddings.group is None:
        return by_sample()
    group = embeddings.group.cpu()
    alone = torch.arange(embeddings.size)
    _, mark = torch.where(group >= 0, group, -1 - alone).unique(return_inverse=True)  # below zero is no group
    return lambda a, b: equal_keys(torch.where(a >= 0, mark[a], -1), torch.where(b >= 0, mark[b], -1))


def by_label(embeddings: Embeddings, attribute: str, classes: Sequence[str]) -> Rule:
    """Return the rule that a hit is a row whose sample shares a class of the attribute. No label, no hit."""
    table = class_places(embeddings.labels, attribute, classes)  # (B, m)
    table = torch.cat([table, torch.full((1, table.shape[1]), -1)])  # sample -1 has no class
    if table.shape[1] <= COMPARED:
        return lambda a, b: _share_compared(table[a.clamp(min=-1)], table[b.clamp(min=-1)])
    return lambda a, b: _share_counted(table[a.clamp(min=-1)], table[b.clamp(min=-1)], len(classes))


def _share_compared(a: Tensor, b: Tensor) -> Tensor:
    """Return (q, c) bool, true where a row of a (q, m) and one of b (c, m) have a number in common, -1 apart."""
    found = torch.zeros(len(a), len(b), dtype=torch.bool)
    for one in a.T:
        for other in b.T:
            found |= equal_keys(one, other)
    return found


def _share_counted(a: Tensor, b: Tensor, classes: int) -> Tensor:
    """Return the same as ``_share_compared``, for rows of many numbers below `classes`, TILE rows of b at a time."""
    asks = _dense(a, classes)
    return torch.cat([asks @ _dense(part, classes).T > 0 for part in b.split(TILE)] or [asks[:, :0] > 0], dim=1)


def _dense(places: Tensor, classes: int) -> Tensor:
    """Return (n, classes) float32, 1 at the places (n, m) of each row, where -1 is none."""
    return torch.zeros(len(places), classes + 1).scatter_(1, places % (classes + 1), 1.0)[:, :classes]


@final
class Captions:
    """The hit rule by which equal texts are one answer.

    Among texts, a hit is a row equal to a text of the query's sample. Asked by a text, a hit is a row whose sample has
    an equal text. Between other modalities a hit is a row of the same sample. A hard negative never asks. It is a hit
    where it equals a text of the query's sample: the model cannot tell the two apart. A sample without a text asks for
    none.

    content: (n,) of the n rows of text, sample: (n,), of B samples in all. Distractors come behind the texts that ask.
    """

    def __init__(self, content: Tensor, sample: Tensor, size: int, text: str = "text"):
        self.text = text
        _, number = content.unique(return_inverse=True)
        self.asks = torch.where(sample >= 0, number, -1)  # (n,) keys of the texts as queries
        self.answers = number  # (n,) keys of the texts as candidates
        kept = sample >= 0
        order = sample[kept].argsort(stable=True)
        owner, said = sample[kept][order], number[kept][order]
        first = torch.searchsorted(owner, owner)  # where each row's sample begins
        place = torch.arange(len(owner)) - first
        self.said = torch.full((size, 1 + int(place.max()) if len(place) else 1), -1)  # (B, texts of a sample)
        self.said[owner, place] = said

    def between(self, asked: Sequence[str], sample: Tensor, of: str, rows: Tensor) -> tuple[Tensor, Tensor, Rule]:
        """Return (keys of the queries (q,), keys of the candidates (c,), the rule over such keys).

        asked: the query's modalities, whose rows are of the samples ``sample``. rows: the candidates' samples.
        """
        if of == self.text:
            return sample, self.answers, self._meet
        if self.text in asked:
            alone = self.asks[: len(sample)]  # behind these are distractors, which do not ask
            texts = alone if len(asked) == 1 else self.said[sample, 0]  # of a composed query its first text
            return texts, rows, lambda a, b: self._meet(b, a).T
        return sample, rows, by_sample()

    def samples(self, sample: int) -> Tensor:
        """Return (B,) bool, true for the samples that have a text of this one."""
        found = torch.zeros(len(self.said), dtype=torch.bool)
        for text in self.said[sample][self.said[sample] >= 0].tolist():
            found |= (self.said == text).any(dim=1)
        return found

    def _meet(self, samples: Tensor, texts: Tensor) -> Tensor:
        """Return (s, t) bool, true where the sample has the text."""
        found = torch.zeros(len(samples), len(texts), dtype=torch.bool)
        for column in self.said[samples].T:
            if bool((column >= 0).any()):
                found |= equal_keys(column, texts)
        return found & (samples >= 0)[:, None]


def by_caption(embeddings: Embeddings, text: str = "text", distractors: Embeddings | None = None) -> Captions:
    """Return the rule that a hit is a row of equal text, up to white space and case. See ``Captions``.

    distractors: other candidates, whose texts are hits where they equal a text of the query's sample. Raises ValueError
    where there is no text, or the embeddings were made without ``embed_shards(…, content=True)``.
    """
    rows = embeddings.get(text)
    if rows is None or not rows.n:
        have = ", ".join(m for m, rows in embeddings.items() if rows.n)
        raise ValueError(f"hit 'caption' needs rows of {text}; there are rows of {have or 'nothing'}")
    more = None if distractors is None else distractors.get(text)
    parts = [rows] if more is None else [rows, more._replace(sample=torch.full_like(more.sample, -1))]
    contents = [part.content.cpu() for part in parts if part.content is not None]
    if len(contents) < len(parts):
        raise ValueError("hit 'caption' needs the rows' content: embed_shards(model, shards, content=True)")
    sample = torch.cat([part.sample.cpu() for part in parts])
    return Captions(torch.cat(contents), sample, embeddings.size, text)


def of_samples(hits: Rule | Captions, size: int) -> Callable[[int, int], bool]:
    """Return a function of two samples in 0..size-1 that is True where one is a hit for the other, for a gallery."""

    @lru_cache(maxsize=1)  # a gallery asks about one sample and all others
    def row(sample: int) -> list[bool]:
        if isinstance(hits, Captions):
            return hits.samples(sample).tolist()
        return hits(torch.tensor([sample]), torch.arange(size))[0].tolist()

    return lambda a, b: row(a)[b]


def equal_answers(embeddings: Embeddings, hits: Rule | Captions) -> dict[str, int]:
    """Return modality -> number of rows that equal another row which is no hit where they are: ties never help."""
    found = {}
    for m, rows in embeddings.items():
        if rows.content is None or (isinstance(hits, Captions) and m == hits.text):
            continue
        _, group, count = rows.content.unique(return_inverse=True, return_counts=True)
        order = group.argsort(stable=True)
        first = order[torch.cat([count.new_zeros(1), count.cumsum(0)[:-1]])] if len(order) else order
        rule = by_sample() if isinstance(hits, Captions) else hits
        several = (count[group] > 1).nonzero().flatten()
        apart = torch.zeros(len(count), dtype=torch.bool)
        for part in several.split(512):
            one, other = rows.sample[part], rows.sample[first[group[part]]]
            differ = ~rule(one, other).diagonal() & (part != first[group[part]])
            apart[group[part][differ]] = True
        found[m] = int(count[apart].sum())
    return found


def has_groups(embeddings: Embeddings) -> bool:
    """Return True where any sample has a group."""
    return embeddings.group is not None and bool((embeddings.group >= 0).any())


class HitRule(NamedTuple):
    """A hit rule, and its text for the protocol."""

    text: str
    rule: Rule | Captions


def choose_hits(
    embeddings: Embeddings, classes: Mapping[str, Mapping[str, Any]], hit: str | None, attribute: str | None
) -> HitRule:
    """Return the rule ``hit``, or by default "group" where samples have groups, else "sample".

    classes: attribute -> classes, for "label", whose attribute is ``attribute`` or the only one. Raises ValueError for
    another rule, for "label" without such an attribute and for "caption" without texts.
    """
    hit = hit or ("group" if has_groups(embeddings) else "sample")
    if hit == "sample":
        return HitRule(hit, by_sample())
    if hit == "group":
        return HitRule(hit if has_groups(embeddings) else "sample", by_group(embeddings))
    if hit == "caption":
        return HitRule(hit, by_caption(embeddings))
    if hit != "label":
        raise ValueError(f"hit is 'group', 'sample', 'label' or 'caption', not {hit!r}")
    if attribute is None and len(classes) == 1:
        attribute = next(iter(classes))
    if attribute is None or attribute not in classes:
        problem = "is needed" if attribute is None else f"{attribute!r} is unknown"
        raise ValueError(f"hit 'label': an attribute {problem}; the shards have {list_attributes(classes)}")
    rule = by_label(embeddings, attribute, list(classes[attribute]))
    return HitRule(f"label: a row whose sample has the same {attribute}", rule)

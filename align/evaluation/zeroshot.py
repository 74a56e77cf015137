"""Zero-shot classification: a row is of the class whose prompts it is nearest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from align.embedding.tables import first_rows, vectors
from align.evaluation.composed import composed_queries
from align.evaluation.labels import memberships
from align.evaluation.prompts import class_prompts, equal_prompts
from align.metrics import ranks, recall_at
from align.model import JointModel
from align.scoring import choose, score
from align.values import Embeddings, Scores, TermInfo

chunk = 4096  # queries scored at a time


def zeroshot(
    query: Mapping[str, Tensor],
    prompts: Tensor,
    members: Tensor,
    *,
    terms: Sequence[TermInfo] = (),
    text: str = "text",
    ks: Sequence[int] = (1, 5),
) -> Scores:
    """Accuracy of n rows against class prompts.

    Args:
        query: {modality: (n, D)}; with several modalities, row i of each belongs together.
        prompts: (C, D), from ``class_prompts``.
        members: (n, C) bool, the classes of each row; rows of no class are left out.
        terms: the model's trained terms; see ``align.scoring.choose``.
        text: the modality of the prompts.
        ks: ``accuracy@k`` is given for each k > 1 below C.

    Returns accuracy, accuracy@k and chance (the expected accuracy of a blind guess); {} where no row has a class.
    """
    known = members.any(dim=1)
    n = int(known.sum())
    if n == 0:
        return {}
    how = choose(terms, query, text)
    members = members[known]
    found = []
    for start in range(0, n, chunk):
        part = {m: x[known][start : start + chunk] for m, x in query.items()}
        scores = score(part, prompts, how, of=text, terms=terms)  # (q, C)
        found.append(ranks(scores, members[start : start + chunk]))  # with several classes a row, any of them is right
    place = torch.cat(found)
    wanted = [k for k in ks if k == 1 or k < len(prompts)]
    out = {"accuracy" if k == 1 else f"accuracy@{k}": recall_at(place, k) for k in wanted}
    return out | {"chance": float(members.double().mean())}


def zeroshot_shards(
    model: JointModel,
    embeddings: Embeddings,
    classes: Mapping[str, Sequence[str] | Mapping[str, str]],
    templates: Mapping[str, Sequence[str]],
    *,
    text: str = "text",
) -> Scores:
    """``zeroshot/ATTRIBUTE/MODALITY/accuracy`` for every attribute × every modality with labelled rows but the text's.

    classes: attribute -> labels, or label -> its name in prompts. Labels whose prompts are equal are one class.

    A Symile term that joins the text with several modalities is read with all of them at once:
    ``zeroshot/sum/audio+image/accuracy``, over the samples that have them all (their first rows).
    """
    scores: Scores = {}
    if text not in model.modalities:
        return scores
    for attribute, names in classes.items():
        table = memberships(embeddings.labels, attribute, list(names))  # (B, labels)
        if not table.any():
            continue
        words = list(names.values()) if isinstance(names, Mapping) else list(names)
        number = torch.tensor(equal_prompts(model, words, templates[attribute], text=text))
        kept = number.unique()
        table = torch.stack([table[:, number == i].any(dim=1) for i in kept], dim=1)  # (B, C)
        prompts = class_prompts(model, [words[i] for i in kept], templates[attribute], text=text)
        for m in embeddings:
            rows = embeddings[m]
            if m == text or not rows.n:
                continue
            members = table[rows.sample] & (rows.sample >= 0)[:, None]
            found = zeroshot({m: vectors(embeddings, m)}, prompts, members, terms=model.terms, text=text)
            scores |= {f"zeroshot/{attribute}/{m}/{name}": value for name, value in found.items()}
        for together in composed_queries(model.terms, text):
            query, samples = first_rows(embeddings, together)
            found = zeroshot(query, prompts, table[samples], terms=model.terms, text=text)
            scores |= {f"zeroshot/{attribute}/{'+'.join(together)}/{name}": value for name, value in found.items()}
    return scores

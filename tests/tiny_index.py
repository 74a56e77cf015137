"""A random index with holes and several rows a sample, a model to ask it with, and scores by plain loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from align.losses.gram import volumes
from align.losses.triangle import areas
from align.search.item import Item
from align.search.parts import Part
from align.values import TermInfo

D = 8
NAMES = ("audio", "image", "points", "text")
TERMS = {
    "pairwise": [TermInfo(("image", "text"), "pairwise", 10.0, -2.0), TermInfo(("audio", "image"), "pairwise", 4.0)],
    "symile": [TermInfo(("audio", "image", "text"), "symile", 20.0)],
    "volume": [TermInfo(("audio", "image", "text"), "volume", 5.0)],
    "volume of two": [TermInfo(("image", "text"), "volume", 5.0, 1.0)],
    "area": [TermInfo(("audio", "image", "text"), "area", 7.0, -1.0)],
    "none": [],
}
TERMS["all"] = [*TERMS["pairwise"], *TERMS["symile"], *TERMS["volume"], *TERMS["area"]]


def model(terms: str, normalize: bool = True) -> Any:
    """A model of which only these facts are read."""
    return SimpleNamespace(terms=TERMS[terms], normalize=normalize, modalities=list(NAMES), device=torch.device("cpu"))


def random(n: int, seed: int, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def fill(index: Any, n: int = 60, unit: bool = True, start: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Add n samples, and return modality -> key -> its rows (r, D). Some lack a modality, some have three rows."""
    items = [
        Item(f"k{i:03d}", {"shard": "/s.tar", "key": f"k{i:03d}"}, [f"a {'red' if i % 3 else 'blue'} thing {i}"], i % 4)
        for i in range(start, start + n)
    ]
    table: dict[str, dict[str, torch.Tensor]] = {}
    for seed, m in enumerate(NAMES):
        rows, owner = [], []
        for place, item in enumerate(items):
            if (place + seed) % 7 == 0:
                continue  # a hole
            made = random(3 if place % 5 == seed else 1, 1000 * seed + start + place)
            made = F.normalize(made, dim=1) if unit else made
            if place % 10 == 9 and rows:
                made = rows[-1][-1:]  # equal to a row of another sample: a tie
            rows.append(made)
            owner += [place] * len(made)
            table.setdefault(m, {})[item.key] = made
        index.add(m, torch.cat(rows), torch.tensor(owner), items)
    return table


def query(parts: list[tuple[str, float]], seed: int = 7, unit: bool = True) -> tuple[list[Part], list[torch.Tensor]]:
    vectors = [random(1, seed + 31 * i)[0] for i in range(len(parts))]
    vectors = [F.normalize(v, dim=0) if unit else v for v in vectors]
    return [Part(m, v, w) for (m, w), v in zip(parts, vectors, strict=True)], vectors


def loop(terms: list[TermInfo], parts: list[Part], row: torch.Tensor, of: str, how: str, unit: bool = True) -> float:
    """The score of one row, in Python's floats, by the definition in ``Searcher.search``."""
    c = row.double() / row.double().norm() if unit or how == "cosine" else row.double()
    whole: dict[str, list[float]] = {}
    for part in parts:
        v = part.value.double()
        v = v / v.norm() if unit or how == "cosine" else v
        old = whole.get(part.modality, [0.0] * len(v))
        whole[part.modality] = [x + part.weight * y for x, y in zip(old, v.tolist(), strict=True)]
    if how == "cosine":
        return sum(x * y for u in whole.values() for x, y in zip(u, c.tolist(), strict=True))
    if how == "mip":
        return sum(map(math.prod, zip(c.tolist(), *whole.values(), strict=True)))
    total = 0.0
    for term in terms:
        if of not in term.modalities or not set(term.modalities) <= {*whole, of}:
            continue
        others = [torch.tensor(whole[m], dtype=torch.float64) for m in term.modalities if m != of]
        if term.kind in ("volume", "area"):
            lengths = [
                sum(abs(p.weight) * (1.0 if unit else float(p.value.double().norm())) for p in parts if p.modality == m)
                / sum(abs(p.weight) for p in parts if p.modality == m)
                for m in term.modalities
                if m != of
            ]
            others = [length * x / x.norm() for x, length in zip(others, lengths, strict=True)]
            measure = volumes if term.kind == "volume" else areas
            total += -term.scale * float(measure(c[None], [x[None] for x in others])) + term.bias
        else:
            product = sum(map(math.prod, zip(c.tolist(), *(x.tolist() for x in others), strict=True)))
            total += term.scale * product + term.bias
    return total


def expected(table: dict[str, dict[str, torch.Tensor]], score: Any, of: str) -> list[tuple[str, float]]:
    """(key, score of its best row), best first. Among scores that are equal in float32 the earlier key comes first."""
    best = {key: max(score(row) for row in rows) for key, rows in table[of].items()}
    return sorted(best.items(), key=lambda pair: (-float(torch.tensor(pair[1], dtype=torch.float32)), pair[0]))


def by_loop(table: Any, terms: Any, parts: Any, of: str, how: str, unit: bool = True) -> list[tuple[str, float]]:
    """``expected`` by ``loop``."""
    return expected(table, lambda row: loop(terms, parts, row, of, how, unit), of)

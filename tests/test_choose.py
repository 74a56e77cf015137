"""One rule everywhere: every caller orders candidates as a plain loop over ``choose``'s rule does."""

from __future__ import annotations

import functools
import itertools
import json
import math
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from align.commands import search as search_command
from align.commands.devices import Placing
from align.commands.groups import Weights
from align.commands.search_groups import Backing, Calibration, Correcting, Query
from align.evaluation import pairs
from align.evaluation.composed import composed_queries
from align.evaluation.hits import by_sample
from align.evaluation.retrieval import retrieval_shards
from align.evaluation.space import Space
from align.lit import recalls
from align.losses.gram import volumes
from align.losses.kinds import KINDS
from align.losses.one_vs_all import span_lengths
from align.losses.triangle import areas
from align.scoring import choose
from align.search.item import Item
from align.search.memory import MemoryIndex
from align.search.searcher import Searcher
from align.values import Embeddings, Rows, TermInfo

retrieval, blocks, zeroshot, answers, classify = map(
    import_module,
    [f"align.evaluation.{name}" for name in ("retrieval", "blocks", "zeroshot", "answers", "classify")],
)
N, D = 4, 6
NAMES = ("audio", "image", "points", "text")
OF = "text"
QUERIES = [q for m in (1, 2, 3) for q in itertools.combinations(NAMES[:3], m)]


def rows(seed: int) -> torch.Tensor:
    """(N, D) unit vectors."""
    return F.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


TABLE = {m: rows(i) for i, m in enumerate(NAMES)}
FRAME = Embeddings(
    {m: Rows(x.float(), torch.arange(N)) for m, x in TABLE.items()}, [f"k{i}" for i in range(N)], torch.arange(N)
)


def term(kind: str, *modalities: str, scale: float = 3.0) -> TermInfo:
    return TermInfo(modalities, kind, scale, -1.0)


def of_kind(kind: str) -> list[TermInfo]:
    """Terms of a kind between all modalities that it can join; their scales differ, so that sums are no cosines."""
    read = KINDS[kind].read
    if read is None:
        return []
    sizes = [
        n for n in (2, 3, 4) if read != "pairwise" or n == 2 if read != "tokens" or n == 2 if read != "area" or n == 3
    ]
    sets = [q for n in sizes for q in itertools.combinations(NAMES, n)]
    return [term(read, *q, scale=2.0 + 3 * i) for i, q in enumerate(sets)]


MODELS: dict[str, list[TermInfo]] = {kind: of_kind(kind) for kind in KINDS}
MODELS |= {f"lone {kind}": of_kind(kind)[-1:] for kind in ("pairwise", "symile", "volume", "area")}
MODELS["symile and pairwise"] = [term("symile", "audio", "image", "text", scale=9.0), *of_kind("pairwise")]
MODELS["volume and tokens"] = [term("volume", "image", "text"), *of_kind("tokens")]


@functools.cache
def plain(model: str, names: tuple[str, ...], of: str = OF) -> tuple[str, torch.Tensor]:
    """(how, (N, N) scores), candidate by candidate and term by term."""
    terms = MODELS[model]
    fitting = [t for t in terms if t.kind != "tokens" and of in t.modalities and {*t.modalities} <= {*names, of}]
    out = torch.zeros(N, N, dtype=torch.float64)
    for i, j in itertools.product(range(N), range(N)):
        parts = [t.scale * cell(t.kind, t.modalities, of, i, j) + t.bias for t in fitting]
        out[i, j] = sum(parts if fitting else [cell("pairwise", (m, of), of, i, j) for m in names])
    return ("objective" if fitting else "cosine"), out


@functools.cache
def cell(kind: str, modalities: tuple[str, ...], of: str, i: int, j: int) -> float:
    """The score of candidate j for query i by one term, without its scale and bias."""
    candidate, others = TABLE[of][j], [TABLE[m][i] for m in modalities if m != of]
    if kind in ("volume", "area"):
        measure = volumes if kind == "volume" else areas
        return -float(measure(candidate[None], [x[None] for x in others]))
    if kind == "span":
        return float(span_lengths(candidate[None], [x[None] for x in others]))
    return sum(map(math.prod, zip(candidate.tolist(), *(x.tolist() for x in others), strict=True)))


class Asked:
    """The rule and the scores of each call of ``score``, in the rooms that call it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: Any):
        self.calls: list[tuple[str, torch.Tensor]] = []
        for module in modules:
            monkeypatch.setattr(module, "score", self.spy(module.score))

    def spy(self, score):
        def called(query, candidates, how="cosine", **more):
            self.calls.append((how, score(query, candidates, how, **more)))
            return self.calls[-1][1]

        return called


def same(found: tuple[str, torch.Tensor], expected: tuple[str, torch.Tensor]) -> None:
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-4, atol=1e-4)
    assert torch.equal(found[1].argsort(dim=1, descending=True), expected[1].argsort(dim=1, descending=True))


over_models = pytest.mark.parametrize("name", MODELS)


def test_the_loop_meets_every_case():
    """With and without a fitting term, for each number of query modalities, and orders that cosine would not give."""
    seen = {(len(q), plain(name, q)[0]) for name in MODELS for q in QUERIES}
    assert seen == set(itertools.product((1, 2, 3), ("cosine", "objective")))
    orders = {(name, q): plain(name, q)[1].argsort(dim=1) for name in MODELS for q in QUERIES}
    differ = {name for name, q in orders if not torch.equal(orders[name, q], orders["none", q])}
    assert {"symile", "volume", "area", "symile and pairwise", "pairwise", "volume and tokens"} <= differ


@over_models
def test_the_rule(name):
    for names in QUERIES:
        assert choose(MODELS[name], names, OF) == plain(name, names)[0]


@over_models
def test_zeroshot(name, monkeypatch):
    asked = Asked(monkeypatch, answers)
    for names in QUERIES:
        asks = {m: FRAME[m].values for m in names}
        zeroshot.zeroshot(asks, FRAME[OF].values, torch.eye(N, dtype=torch.bool), terms=MODELS[name])
        same(asked.calls[-1], plain(name, names))


@over_models
def test_retrieval(name, monkeypatch):
    asked, each = Asked(monkeypatch, blocks), torch.arange(N)
    for names in QUERIES:
        asks = {m: FRAME[m].values for m in names}
        retrieval.retrieval(asks, FRAME[OF].values, each, each, by_sample(), of=OF, terms=MODELS[name])
        same(asked.calls[-1], plain(name, names))


@over_models
def test_the_space_of_evaluators(name, monkeypatch):
    asked, space = Asked(monkeypatch, blocks), Space.__new__(Space)  # of a table that is there: nothing is read
    space.model, space._tables = SimpleNamespace(terms=MODELS[name]), {("embedding", "test"): FRAME}
    for names in QUERIES:
        list(space.scores(names if len(names) > 1 else names[0], OF))
        same(asked.calls[-1], plain(name, names))


@over_models
def test_retrieval_of_a_set_and_validation_with_composed_queries(name, monkeypatch):
    """Each direction that they measure, in the order in which they do."""
    terms = MODELS[name]
    asked = Asked(monkeypatch, blocks, recalls)
    retrieval_shards(FRAME, by_sample(), terms=terms)
    recalls.recalls([FRAME], terms)
    directions = [(q, of) for of in NAMES for q in [*((m,) for m in NAMES if m != of), *composed_queries(terms, of)]]
    directions += recalls.directions(terms)
    for call, (q, of) in zip(asked.calls, directions, strict=True):
        same(call, plain(name, q, of))


@over_models
def test_search(name, monkeypatch, capsys):
    """The searcher, and the command's JSON."""
    index = MemoryIndex()
    index.add(OF, FRAME[OF].values, torch.arange(N), [Item(key, {"shard": "s", "key": key}) for key in FRAME.ids])
    facts = {"terms": MODELS[name], "normalize": True, "modalities": NAMES, "device": torch.device("cpu")}
    model: Any = SimpleNamespace(**facts, embed=lambda **given: {m: FRAME[m].values[:1] for m in given})
    searcher = Searcher(index, model)
    monkeypatch.setattr(search_command, "open_searcher", lambda *_: searcher)
    for names in QUERIES:
        how, scores = plain(name, names)
        order = scores.argsort(dim=1, descending=True)
        for row in range(N):
            found = searcher.search({m: FRAME[m].values[row] for m in names}, OF, N)
            assert [hit.sample - 1 for hit in found.hits] == order[row].tolist()
            assert [hit.score for hit in found.hits] == pytest.approx(scores[row, order[row]].tolist(), abs=1e-4)
            assert found.how == how
        asked = Query(with_=",".join(f"{m}=x" for m in names))
        groups = {"parts": asked, "calibration": Calibration(), "hubs": Correcting()}
        groups |= {"backing": Backing(), "placing": Placing(), "weights": Weights()}
        search_command.search("i", of=OF, k=N, json=True, **groups)
        said = json.loads(capsys.readouterr().out)
        assert [int(hit["key"][1:]) for hit in said["hits"]] == order[0].tolist()
        assert said["how"] == how


@over_models
def test_the_filters_score(name, monkeypatch):
    asked = Asked(monkeypatch, pairs)
    for m in NAMES[:3]:
        found = pairs.best_scores(FRAME, m, OF, MODELS[name])
        same(asked.calls[-1], plain(name, (m,)))
        assert found == pytest.approx(plain(name, (m,))[1].diagonal().tolist(), abs=1e-4)


@over_models
def test_classification_of_files(name, monkeypatch):
    """Files are the table's rows, and each class has one prompt: a row of the text."""
    asked = Asked(monkeypatch, classify)
    model = SimpleNamespace(terms=MODELS[name], modalities=NAMES)
    model.embed = lambda **given: {m: FRAME[m].values for m in given}
    monkeypatch.setattr(classify, "equal_prompts", lambda *_: list(range(N)))
    monkeypatch.setattr(classify, "class_prompts", lambda *_: FRAME[OF].values)
    for m in NAMES[:3]:
        found, how, _ = classify.label_inputs(model, {key: key for key in FRAME.ids}, ["{}"], {m: FRAME.ids})
        same(asked.calls[-1], plain(name, (m,)))
        assert how == plain(name, (m,))[0]
        best = plain(name, (m,))[1].argmax(dim=1).tolist()
        assert [row.label for row in found] == [FRAME.ids[i] for i in best]

"""Our numbers beside those of other harnesses and libraries on the same matrices: the worst difference of each.

    PYTHONPATH=. python tests/benchmarks/harnesses.py
    PYTHONPATH=. python tests/benchmarks/harnesses.py --clip-benchmark CLONE --dinov2 CLONE

CLIP_benchmark and DINOv2 are taken from clones, CLIP_benchmark also from an installed package. The others:
pip install pytrec-eval-terrier scikit-learn scipy

"ties": the same on scores of a few values, where ours take the worst order. The end lists differences on purpose.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.metrics import average_precisions, graded_gains, hit_gains, hit_places, recall_at, reciprocal_ranks
from align.metrics.intervals import bootstrap

Row = tuple[str, float, float, float]  # metric, ours, theirs, worst difference over queries or cases

ON_PURPOSE = [
    ("recall@k (CLIP_benchmark)", "of equal scores topk takes any; ours put wrong ones first; one score for all is 0"),
    (
        "recall (trec_eval)",
        "its recall@k is the share of the hits found; ours is its success@k, as CLIP's papers have it",
    ),
    ("MAP, nDCG, MRR (trec_eval)", "it orders equal scores by document id; ours put a hit behind its equals"),
    ("queries without a hit", "trec_eval judges them with 0; ours leave them out"),
    ("accuracy@k (CLIP_benchmark)", "equal scores as above; ours count a class of equal prompts as one"),
    ("kNN (DINOv2)", "its votes tie by the class's number; two equal votes are no answer of ours"),
    ("AUROC, AP (scikit-learn)", "none: a tie counts half, and a constant score gives .5 and the prevalence"),
    ("median rank", "the lower of two middle ranks; others take their mean"),
]


def table(ties: bool, q: int = 60, c: int = 90) -> tuple[Tensor, Tensor]:
    """Scores (q, c) on both sides of zero and levels 0..3 (q, c). Each query has a hit."""
    draw = torch.Generator().manual_seed(1)
    scores = torch.randn(q, c, generator=draw)
    levels = torch.randint(4, (q, c), generator=draw, dtype=torch.uint8)
    levels[torch.rand(q, c, generator=draw) < 0.8] = 0
    levels[:, 3] = 1
    return (scores * 2).round() / 2 if ties else scores, levels


def lazy(path: str) -> Any:
    """Return module.name of ours, or raise ImportError."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ImportError(f"{path} is not there") from None


def compare(metric: str, ours: Tensor, theirs: Tensor) -> Row:
    ours, theirs = ours.double(), theirs.double()
    return metric, float(ours.mean()), float(theirs.mean()), float((ours - theirs).abs().max())


def trec(options: argparse.Namespace, ties: bool) -> Iterator[Row]:
    import pytrec_eval

    scores, levels = table(ties)

    def judged(levels: Tensor, key: str) -> Tensor:
        wanted = {f"q{i}": {f"d{j}": int(x) for j, x in enumerate(row)} for i, row in enumerate(levels.tolist())}
        found = {f"q{i}": {f"d{j}": x for j, x in enumerate(row)} for i, row in enumerate(scores.tolist())}
        measures = {"map", "recip_rank", "ndcg_cut.10", "success.1,5,10"}
        out = pytrec_eval.RelevanceEvaluator(wanted, measures).evaluate(found)
        return torch.tensor([out[f"q{i}"][key] for i in range(len(scores))], dtype=torch.float64)

    places = hit_places(scores, levels > 0)
    hits = (levels > 0).int()
    for k in (1, 5, 10):
        yield compare(f"recall@{k} (success_{k})", (places.rank > 0) & (places.rank <= k), judged(hits, f"success_{k}"))
    yield compare("mAP", average_precisions(places), judged(hits, "map"))
    yield compare("MRR", reciprocal_ranks(places.rank), judged(hits, "recip_rank"))
    yield compare("nDCG@10", hit_gains(places, 10), judged(hits, "ndcg_cut_10"))
    yield compare("nDCG@10, graded", graded_gains(scores, levels, 10), judged(levels, "ndcg_cut_10"))


def clip_benchmark(options: argparse.Namespace, ties: bool) -> Iterator[Row]:
    if options.clip_benchmark:
        sys.path.insert(0, options.clip_benchmark)
    recall_at_k = lazy("clip_benchmark.metrics.zeroshot_retrieval.recall_at_k")
    scores, levels = table(ties)
    number = torch.arange(90) % 60  # 90 texts of 60 images
    positive = number[:, None] == torch.arange(60)
    for name, s, p in (("text to image", scores.T, positive), ("image to text", scores, positive.T)):
        place = hit_places(s.contiguous(), p.contiguous()).rank
        for k in (1, 5, 10):
            theirs = recall_at_k(s, p, k) > 0
            yield compare(f"recall@{k}, {name}", (place > 0) & (place <= k), theirs)
    theirs: Any = importlib.import_module("clip_benchmark.metrics.zeroshot_classification")
    theirs.float = lambda x: (
        x.item() if hasattr(x, "item") else float(x)
    )  # NumPy 2.4 refuses its float of an array (1,)
    logits, target = scores[:, :12].contiguous(), torch.arange(60) % 12
    place = hit_places(logits, F.one_hot(target, 12).bool()).rank
    for k, value in zip((1, 5), theirs.accuracy(logits, target, topk=(1, 5)), strict=True):
        yield compare(f"accuracy@{k}", torch.tensor([recall_at(place, k)]), torch.tensor([value]))
    mean_per_class = lazy("align.metrics.mean_per_class")
    expected = theirs.balanced_accuracy_score(target.numpy(), logits.argmax(1).numpy())
    yield compare("mean per class", torch.tensor([mean_per_class(place == 1, target)]), torch.tensor([expected]))
    average_precision = lazy("align.metrics.average_precision")
    hits = levels[:, :12] > 0
    ours = torch.tensor([average_precision(logits[:, i], hits[:, i]) for i in range(12)])
    yield compare("multi-label AP", ours, theirs.average_precision_per_class(logits, hits.float()))


def dinov2(options: argparse.Namespace, ties: bool) -> Iterator[Row]:
    """KnnModule alone is taken from the file, which imports the whole of DINOv2."""
    vote_right = lazy("align.metrics.neighbours.vote_right")
    if not options.dinov2:
        raise ImportError("no --dinov2 CLONE; git clone https://github.com/facebookresearch/dinov2")
    tree = ast.parse((Path(options.dinov2) / "dinov2" / "eval" / "knn.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "KnnModule"]
    alone = SimpleNamespace(get_global_rank=lambda: 0, get_global_size=lambda: 1)
    scope: dict[str, Any] = {"torch": torch, "one_hot": F.one_hot, "softmax": torch.softmax, "distributed": alone}
    exec(compile(tree, "knn.py", "exec"), scope)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    draw = torch.Generator().manual_seed(2)
    centres = torch.randn(7, 16, generator=draw)
    label, target = torch.arange(210) % 7, torch.arange(70) % 7
    noise = torch.randn(280, 16, generator=draw) * 3
    if ties:
        centres, noise = centres.round(), noise.round()
    rows, query = (F.normalize(x, dim=1) for x in (centres[label] + noise[:210], centres[target] + noise[210:]))
    ks = [10, 20, 100]
    theirs = scope["KnnModule"](rows, label, ks, 0.07, "cpu", 7)(query)
    for k, right in vote_right(query, target, rows, label, 7, ks=ks, temperature=0.07).items():
        yield compare(f"kNN, k {k}, T .07", right, theirs[k].argmax(1) == target)


def scikit_learn(options: argparse.Namespace, ties: bool) -> Iterator[Row]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, levels = table(ties)
    hits = levels > 0
    if not ties:  # of a ranking without ties, AP is that of scikit-learn
        expected = [average_precision_score(hit.numpy(), s.numpy()) for s, hit in zip(scores, hits, strict=True)]
        yield compare("mAP of retrieval", average_precisions(hit_places(scores, hits)), torch.tensor(expected))
    for name, ours, theirs in (
        ("AP", lazy("align.metrics.average_precision"), average_precision_score),
        ("AUROC", lazy("align.metrics.auroc"), roc_auc_score),
    ):
        pairs = list(zip(scores, hits, strict=True))
        expected = torch.tensor([theirs(hit.numpy(), s.numpy()) for s, hit in pairs])
        yield compare(name, torch.tensor([ours(s, hit) for s, hit in pairs]), expected)


def scipy(options: argparse.Namespace, ties: bool) -> Iterator[Row]:
    import numpy as np
    from scipy import stats

    scores, levels = table(ties)
    places = hit_places(scores, levels > 0)
    value = average_precisions(places)
    draw = torch.Generator().manual_seed(0)
    ours = bootstrap(value, torch.arange(len(value)), draws=20_000, generator=draw)
    theirs = stats.bootstrap((value.numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=0)
    interval = torch.tensor([theirs.confidence_interval.low, theirs.confidence_interval.high])
    yield compare("bootstrap of mAP, 20,000 draws", torch.tensor(ours), interval)
    try:
        skewness = lazy("align.metrics.skewness")
        counts = torch.bincount(scores.topk(10, dim=1).indices.flatten(), minlength=90)
        yield compare("skewness of N_10", skewness(counts), torch.tensor([stats.skew(counts.numpy())]))
    except ImportError as error:
        print(f"{'SciPy':<16}{error}")
    rsa, dissimilarities = (lazy(f"align.metrics.geometry.rsa.{name}") for name in ("rsa", "dissimilarities"))
    x, y = scores[:40, :8], scores[:40, 2:12]
    a, b = dissimilarities(x), dissimilarities(y)
    upper = tuple(torch.triu_indices(40, 40, 1))
    expected = stats.spearmanr(a[upper].numpy(), b[upper].numpy()).statistic
    yield compare("Spearman (RSA)", torch.tensor([float(rsa(a, b).value)]), torch.tensor([expected]))


ORACLES: dict[str, Callable[[argparse.Namespace, bool], Iterator[Row]]] = {
    "trec_eval": trec,
    "CLIP_benchmark": clip_benchmark,
    "DINOv2": dinov2,
    "scikit-learn": scikit_learn,
    "SciPy": scipy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-benchmark", help="a clone of LAION-AI/CLIP_benchmark")
    parser.add_argument("--dinov2", help="a clone of facebookresearch/dinov2")
    options = parser.parse_args()
    print(f"{'oracle':<16}{'metric':<34}{'ours':>10}{'theirs':>10}{'worst':>10}{'ties: ours':>12}{'theirs':>10}")
    for name, oracle in ORACLES.items():
        apart: dict[str, Row] = {}
        for ties in (False, True):
            try:
                for row in oracle(options, ties):
                    if not ties:
                        apart[row[0]] = row
                        continue
                    _, ours, theirs, worst = apart.pop(row[0])
                    numbers = f"{ours:>10.6f}{theirs:>10.6f}{worst:>10.1e}{row[1]:>12.4f}{row[2]:>10.4f}"
                    print(f"{name:<16}{row[0]:<34}{numbers}", flush=True)
            except ImportError as error:
                if ties:
                    print(f"{name:<16}the rest is left out: {error}", flush=True)
        for metric, ours, theirs, worst in apart.values():
            print(f"{name:<16}{metric:<34}{ours:>10.6f}{theirs:>10.6f}{worst:>10.1e}", flush=True)
    print("\nDifferent on purpose")
    for metric, reason in ON_PURPOSE:
        print(f"  {metric:<32}{reason}")


if __name__ == "__main__":
    main()

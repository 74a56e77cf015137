"""Our losses, retrieval and embeddings beside those of other libraries: python tests/benchmarks/peers.py

Each line is one comparison in float64 and the largest relative difference, of values and gradients. A peer that is not
installed is skipped with a line. ``docs/from-other-libraries.md`` tells the conventions that the conversions here use.

    pip install open_clip_torch symile sentence-transformers pytorch-metric-learning lightly \\
        pytrec-eval-terrier faiss-cpu usearch scikit-learn
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align import JointModel, Tower
from align.encoders import Precomputed
from align.evaluation.hits import by_sample
from align.evaluation.retrieval import retrieval
from align.losses import Matryoshka, distill, infonce, siglip, symile, vicreg
from align.losses.infonce import InfoNCE
from align.preprocess import Array

N, D, SCALE = 33, 24, 10.0
Compared = Iterator[tuple[str, float]]


def rows(seed: int, n: int = N, length: float | None = 1.0) -> Tensor:
    """(n, D) float64 rows with gradients, of one length where one is given."""
    x = torch.randn(n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x if length is None else length * F.normalize(x, dim=1)).requires_grad_()


def unit(x: Tensor) -> Tensor:
    """Rows at length 1, as many libraries make them inside their losses."""
    return F.normalize(x, dim=1)


def apart(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> float:
    """The largest relative difference of two values and of their gradients."""
    pairs = [(ours, theirs)]
    pairs += zip(*(torch.autograd.grad(x, inputs, retain_graph=True) for x in (ours, theirs)), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def open_clip() -> Compared:
    from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss

    a, b, t, u = (rows(seed) for seed in range(4))
    yield "ClipLoss", apart(infonce(a, b, SCALE), ClipLoss()(a, b, torch.tensor(SCALE)), [a, b])
    theirs = SigLipLoss()(a, b, torch.tensor(SCALE), torch.tensor(-5.0))
    yield "SigLipLoss", apart(siglip(a, b, SCALE, -5.0), theirs, [a, b])
    _, theirs = DistillClipLoss()(a, b, torch.tensor(SCALE), t.detach(), u.detach(), torch.tensor(20.0))
    logits = 20.0 * t.detach() @ u.detach().T
    entropy = sum(-(p.exp() * p).sum(1).mean() for p in (logits.log_softmax(1), logits.T.log_softmax(1))) / 2
    yield "DistillClipLoss, with the entropy", apart(distill(a, b, t, u, SCALE, 20.0) + entropy, theirs, [a, b])


def sentence_transformers() -> Compared:
    from sentence_transformers.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    class Model(nn.Module):
        def get_embedding_dimension(self) -> int:
            return D

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**features, "sentence_embedding": features["x"]}

    x, y = rows(0), rows(1)
    a, b = unit(x), unit(y)
    features: list[Any] = [{"x": x}, {"x": y}]
    loss = MultipleNegativesRankingLoss(Model(), scale=SCALE)  # pyright: ignore[reportArgumentType]
    yield "MultipleNegativesRankingLoss", apart(infonce(a, b, SCALE, directions=(1, 0)), loss(features, None), [x, y])
    theirs = MatryoshkaLoss(loss.model, loss, [D, 12, 6], [1, 1, 1])(features, None)
    ours = Matryoshka(InfoNCE(directions=(1, 0), start_scale=SCALE), [6, 12, D]).double()
    ours.start(D, 2, N)  # again, now that its logarithm is float64
    value = ours([a, b], [torch.arange(N)] * 2)
    yield "MatryoshkaLoss", apart(value, theirs, [x, y])


def two_views(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """NT-Xent by groups: every row against all others, its own place left out."""
    z, n = unit(torch.cat([x, y])), len(x)
    here, there = torch.arange(2 * n), torch.arange(2 * n).roll(n)
    return infonce(z, z, 1 / temperature, sample_a=here, sample_b=there, group_a=here, group_b=here)


def pytorch_metric_learning() -> Compared:
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    x, y = rows(0), rows(1)
    ids = torch.arange(N)
    theirs = NTXentLoss(0.1)(torch.cat([x, y]), torch.cat([ids, ids]))
    yield "NTXentLoss", apart(two_views(x, y, 0.1), theirs, [x, y])
    classes = torch.arange(N) % 5
    theirs = SupConLoss(0.1)(x, classes, ref_emb=y, ref_labels=classes.clone())  # of one object it drops the diagonal
    ours = infonce(unit(x), unit(y), 10.0, sample_a=classes, sample_b=classes, directions=(1, 0))
    yield "SupConLoss, one set against another", apart(ours, theirs, [x, y])


def lightly() -> Compared:
    from lightly.loss import NTXentLoss, VICRegLoss

    x, y = rows(0), rows(1)
    yield "NTXentLoss", apart(two_views(x, y, 0.1), NTXentLoss(0.1)(x, y), [x, y])
    x, y = rows(2, length=None), rows(3, length=None)
    yield "VICRegLoss, variance_weight / 2", apart(vicreg(x, y, variance_weight=12.5), VICRegLoss()(x, y), [x, y])


def symile_package() -> Compared:
    from symile import Symile

    xs, scale = [rows(seed) for seed in range(3)], torch.tensor(SCALE).double()
    yield "n_squared: all", apart(symile(xs, scale), Symile("n_squared")(xs, scale), xs)
    torch.manual_seed(3)
    theirs = Symile("n")(xs, scale)
    ours = symile(xs, scale, negatives="shuffled", generator=torch.Generator().manual_seed(3))
    yield "n: shuffled, one seed", apart(ours, theirs, xs)


def captions() -> SimpleNamespace:
    """33 pictures with two captions each, and our numbers of image -> text."""
    a, b = rows(0).detach(), rows(1, 2 * N).detach()
    b = F.normalize(b + a.repeat_interleave(2, 0), dim=1)
    of_b = torch.arange(N).repeat_interleave(2)
    ours = retrieval({"image": a}, b, torch.arange(N), of_b, by_sample(), of="text")
    return SimpleNamespace(scores=a @ b.T, hit=torch.arange(N)[:, None] == of_b, ours=ours)


def trec() -> Compared:
    import pytrec_eval

    it = captions()
    wanted = {f"q{i}": {f"d{j}": 1 for j in hit.nonzero()[:, 0].tolist()} for i, hit in enumerate(it.hit)}
    found = {f"q{i}": {f"d{j}": x for j, x in enumerate(row.tolist())} for i, row in enumerate(it.scores)}
    judged = pytrec_eval.RelevanceEvaluator(wanted, {"success", "map"}).evaluate(found)
    mean = {
        key: np.mean([row[key] for row in judged.values()]) for key in ("success_1", "success_5", "success_10", "map")
    }
    for k in (1, 5, 10):
        yield f"success_{k}: recall@{k}", abs(mean[f"success_{k}"] - it.ours[f"recall@{k}"])
    yield "map", abs(mean["map"] - it.ours["map"])


def published() -> Compared:
    """CLIP_benchmark's recall: a query counts where one of its texts is among the best k. open_clip's, of one text."""
    it = captions()
    for k in (1, 5, 10):
        hits = it.hit.gather(1, it.scores.topk(k).indices).sum(1)
        yield f"CLIP_benchmark: recall@{k}", abs(float((hits > 0).double().mean()) - it.ours[f"recall@{k}"])
    a, b = rows(0).detach(), F.normalize(rows(0).detach() + 0.7 * rows(1).detach(), dim=1)
    ours = retrieval({"image": a}, b, torch.arange(N), torch.arange(N), by_sample(), of="text")
    place = ((a @ b.T).argsort(1, descending=True) == torch.arange(N)[:, None]).nonzero()[:, 1].numpy()
    yield "open_clip: R@5", abs(float((place < 5).mean()) - ours["recall@5"])
    yield "open_clip: median rank, odd number", abs(float(np.floor(np.median(place)) + 1) - ours["median_rank"])


def embedded() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries and candidates of our model, and its ten nearest of each."""
    torch.manual_seed(0)
    model = JointModel({m: Tower(Array((16,)), Precomputed(16)) for m in ("image", "text")}, dim=D).eval()
    draw = torch.Generator().manual_seed(0)
    given = {m: list(torch.randn(n, 16, generator=draw)) for m, n in (("image", 20), ("text", 500))}
    out = model.embed(**given)
    return out["image"].numpy(), out["text"].numpy(), (out["image"] @ out["text"].T).topk(10).indices.numpy()


def faiss() -> Compared:
    import faiss

    queries, candidates, nearest = embedded()
    index = faiss.IndexFlatIP(D)
    index.add(candidates)  # pyright: ignore[reportCallIssue]
    yield "IndexFlatIP, 10 nearest", float((index.search(queries, 10)[1] != nearest).mean())  # pyright: ignore


def usearch() -> Compared:
    from usearch.index import search

    queries, candidates, nearest = embedded()
    found = search(candidates, queries, 10, "cos", exact=True)
    yield "exact cosine, 10 nearest", float((np.asarray(found.keys) != nearest).mean())


def scikit_learn() -> Compared:
    from sklearn.neighbors import NearestNeighbors

    queries, candidates, nearest = embedded()
    found = NearestNeighbors(n_neighbors=10, metric="cosine").fit(candidates).kneighbors(queries)[1]
    yield "NearestNeighbors, cosine, 10 nearest", float((found != nearest).mean())


PEERS: dict[str, Callable[[], Compared]] = {
    "open_clip": open_clip,
    "sentence-transformers": sentence_transformers,
    "pytorch-metric-learning": pytorch_metric_learning,
    "lightly": lightly,
    "symile": symile_package,
    "pytrec-eval-terrier": trec,
    "published formulas": published,
    "faiss": faiss,
    "usearch": usearch,
    "scikit-learn": scikit_learn,
}


def main() -> None:
    print(f"{'peer':<24}{'what':<40}difference")
    for peer, compare in PEERS.items():
        try:
            for what, difference in compare():
                print(f"{peer:<24}{what:<40}{difference:.1e}", flush=True)
        except ImportError as error:
            print(f"{peer:<24}skipped: {error}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()

"""CAPro against plain loops: soft targets, corrected labels, chosen texts, and prototypes over two batches."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from align.losses import CAPro, infonce
from align.losses.kernels.noisy_labels import choose_clean, correct_labels
from align.losses.kernels.soft import soft_pairs
from align.objective import Objective, Term
from align.values import Embeddings, Rows

names = ["red", "green", "blue"]


def unit(n: int, dim: int = 5, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, dtype=torch.float64, generator=draw), dim=1)


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def softmax(values: list[float]) -> list[float]:
    total = sum(map(math.exp, values))
    return [math.exp(v) / total for v in values]


def one_way(a, b, scale, of_a, of_b, weights, groups) -> float:
    cost = total = 0.0
    for i in range(len(a)):
        target = [dot(of_a[i], of_b[j]) for j in range(len(b))]
        if not sum(target):
            continue
        there = [j for j in range(len(b)) if target[j] or groups is None or groups[0][i] != groups[1][j]]
        norm = math.log(sum(math.exp(scale * dot(a[i], b[j])) for j in there))
        loss = sum(target[j] * (norm - scale * dot(a[i], b[j])) for j in there) / sum(target)
        cost, total = cost + float(weights[i]) * loss, total + float(weights[i])
    return cost / total


@pytest.mark.parametrize("grouped", [False, True])
def test_soft_pairs_are_the_plain_loop(grouped):
    a, b, of_a, of_b = unit(5), unit(6, seed=2), torch.rand(5, 3).double(), torch.rand(6, 3).double()
    of_a[1], of_b[4], of_b[5] = 0, 0, torch.tensor([1.0, 0, 0])
    of_a[0, 0] = 0  # no target with the last
    weights = [torch.arange(n).double() + 1 for n in (5, 6)]
    groups = [torch.tensor([7, 7, 3, 4, 5]), torch.tensor([3, 9, 9, 8, 4, 7])] if grouped else None
    scale = torch.tensor(3.0, dtype=torch.float64)
    got = soft_pairs(a, b, scale, of_a, of_b, groups=groups, weights=weights)
    back = None if groups is None else groups[::-1]
    expected = one_way(a, b, 3.0, of_a, of_b, weights[0], groups) + one_way(b, a, 3.0, of_b, of_a, weights[1], back)
    assert float(got) == pytest.approx(expected / 2, abs=1e-12)


def test_with_one_class_a_row_soft_pairs_are_infonce():
    a, b, i, j = unit(5), unit(6, seed=2), torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0, 2, 2, 1, 0, 0])
    ones = [torch.ones(5).double(), torch.ones(6).double()]
    got = soft_pairs(a, b, torch.tensor(4.0).double(), F.one_hot(i).double(), F.one_hot(j).double(), weights=ones)
    assert float(got) == pytest.approx(float(infonce(a, b, 4.0, sample_a=i, sample_b=j)), abs=1e-12)


def corrected(x, given, vectors, seen, sharp, sure, bootstrap) -> list[list[float]]:
    known = [c for c in range(len(seen)) if seen[c]]
    labelled = [i for i in range(len(x)) if any(given[i])]
    out = []
    for row in x:
        p = softmax([sharp * dot(row, vectors[c]) for c in known])
        out.append([p[known.index(c)] if c in known else 0.0 for c in range(len(seen))])
    made = []
    for i in range(len(x)):
        mine = [c for c in range(len(seen)) if given[i][c] and (c not in known or out[i][c] > 1 / len(known))]
        if i in labelled and max(out[i]) >= sure:
            mine = [out[i].index(max(out[i]))]
        if not mine:
            made.append([0.0] * len(seen))
            continue
        others = [j for j in labelled if j != i]
        near = softmax([sharp * dot(x[i], x[j]) for j in others])
        told = [sum(w * out[j][c] for w, j in zip(near, others, strict=True)) for c in range(len(seen))]
        made.append([(1 - bootstrap) * (c in mine) / len(mine) + bootstrap * told[c] for c in range(len(seen))])
    return made


def test_corrected_labels_are_those_of_the_loop():
    x, vectors = unit(40), unit(4, seed=2)
    given = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    for seen in ([True] * 4, [True, True, False, True]):
        got = correct_labels(x, given, vectors, torch.tensor(seen), 4.0, 0.6, 0.3)
        expected = corrected(x, given.tolist(), vectors, seen, 4.0, 0.6, 0.3)
        torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
        moved = (got.argmax(1) != given.double().argmax(1)) & (got.sum(1) > 0)
        wrong = given.any(1) & (got.sum(1) == 0)
        assert moved.any()
        assert wrong.any()
        assert not got[~given.any(1)].any()
    first = correct_labels(x, given, vectors, torch.zeros(4, dtype=torch.bool), 4.0, 0.6, 0.3)
    torch.testing.assert_close(first, given / given.sum(1, keepdim=True).clamp(min=1).double())
    alone = correct_labels(x[:1], torch.tensor([[True] * 4]), vectors, torch.tensor([True] * 4), 4.0, 0.6, 0.5)
    assert alone.isfinite().all()


def test_the_texts_nearest_to_their_prototype_choose():
    t, vectors = unit(9), unit(3, seed=2)
    given = torch.tensor([[i % 3 == c or (i == 4 and c == 0) for c in range(3)] for i in range(9)])
    given[8] = False
    got = choose_clean(t, given, vectors, 0.4)
    for c in range(3):
        mine = [i for i in range(9) if given[i, c]]
        best = sorted(mine, key=lambda i: -dot(t[i], vectors[c]))[: math.ceil(0.4 * len(mine))]
        assert got[:, c].nonzero().flatten().tolist() == sorted(best)


def table(labels, seed: int) -> Embeddings:
    """Six samples: two rows of a picture for sample 1, a hard negative, no picture of 3, two texts of 2."""
    owners = {"image": [0, 1, 1, 2, -1, 4, 5], "text": [0, 1, 2, 2, 3, 4, 5]}
    rows = {m: Rows(unit(len(o), seed=seed + i), torch.tensor(o)) for i, (m, o) in enumerate(owners.items())}
    return Embeddings(rows, [*"abcdef"], torch.arange(6), labels, weight=torch.arange(6) + 1.0)


def objective(**more) -> Objective:
    loss = CAPro("hue", **more)
    return Objective({"clean": Term(loss, ["image", "text"])}, dim=5, batch=6, modalities=["image", "text"]).double()


hues = [*"rgbrgb"]
full = {"r": "red", "g": "green", "b": "blue"}


def test_two_batches_are_the_loop_and_a_state_comes_back():
    made = objective(share=0.5, sure=0.6, sharp=2.0, bootstrap=0.25, momentum=0.75)
    made.name_classes({"hue": names})
    first, second = (table([{"hue": full[h]} for h in order], seed) for order, seed in ((hues, 4), ("bbgrrg", 8)))
    made(first)
    loss = made.losses["clean"]
    places = {m: [-1 if s < 0 else names.index(full[hues[s]]) for s in first[m].sample.tolist()] for m in first}
    x, t = first["image"].values, first["text"].values
    means = []
    for c in range(3):
        told = [j for j in range(7) if places["text"][j] == c]
        mean = F.normalize(t[told].mean(0), dim=0)
        best = sorted(told, key=lambda j: -dot(t[j], mean))[: math.ceil(0.5 * len(told))]
        chosen = {int(first["text"].sample[j]) for j in best}
        rows = [i for i in range(7) if int(first["image"].sample[i]) in chosen]
        means.append(x[rows].mean(0) if rows else None)
    vectors, seen = loss.prototypes(0, x)
    assert seen.tolist() == [mean is not None for mean in means]
    for c, mean in enumerate(means):
        if mean is not None:
            torch.testing.assert_close(vectors[c], F.normalize(mean, dim=0), rtol=1e-12, atol=0)
    again = objective(share=0.5, sure=0.6, sharp=2.0, bootstrap=0.25, momentum=0.75)
    again.load_state_dict(made.state_dict())
    again.name_classes({"hue": names})
    x, t = second["image"].values, second["text"].values
    of = [[-1 if s < 0 else names.index(full["bbgrrg"[s]]) for s in second[m].sample.tolist()] for m in second]
    given = [[c == p for c in range(3)] for p in of[0]]
    target = torch.tensor(corrected(x, given, vectors, seen.tolist(), 2.0, 0.6, 0.25), dtype=torch.float64)
    stays = [i for i in range(7) if of[0][i] < 0 or target[i].any()]
    told = F.one_hot(torch.tensor(of[1]), 3).double()
    w = [[1.0 if s < 0 else s + 1.0 for s in second[m].sample.tolist()] for m in second]
    scale = 1 / 0.07
    there = one_way(x[stays], t, scale, target[stays], told, [w[0][i] for i in stays], None)
    back = one_way(t, x[stays], scale, told, target[stays], w[1], None)
    assert len(stays) < 7
    for each in (made.eval(), again.eval()):
        assert float(each(second)[0].detach()) == pytest.approx((there + back) / 2, rel=1e-6)
    torch.testing.assert_close(loss.prototypes(0, x)[0], vectors)  # evaluation moves nothing
    old = loss.prototypes(1, x)[0][0], getattr(loss, "means/image-text/text")[0].clone()
    made.train()(second)
    new = t[[j for j in range(7) if of[1][j] == 0]].mean(0)
    torch.testing.assert_close(getattr(loss, "means/image-text/text")[0], 0.75 * old[1] + 0.25 * new)


def test_rows_that_are_not_finite_move_no_prototype():
    made = objective(classes=names)
    broken = table([{"hue": "red"}] * 6, 4)
    broken["image"].values[3] = math.nan
    broken["text"].values[0] = math.inf
    made(broken)
    for side in (0, 1):
        vectors, seen = made.losses["clean"].prototypes(side, broken["text"].values)
        assert vectors.isfinite().all()
        assert seen.tolist() == [True, False, False]


def test_what_does_not_fit_is_one_line():
    x, ids = torch.randn(3, 2), torch.arange(3)
    one = torch.zeros(3, 1, dtype=torch.int64)
    for wrong, words in (
        (lambda: CAPro(share=0), "share is a number above 0 and at most 1; got 0"),
        (lambda: CAPro(sure=1.5), "sure is a number above 0"),
        (lambda: CAPro(bootstrap=1.0), "bootstrap is a number from 0 to below 1"),
        (lambda: CAPro(momentum=-0.1), "momentum is a number from 0"),
        (lambda: CAPro(sharp=0), "sharp is a number above 0"),
        (lambda: CAPro(classes=["a"])([x, x], [ids, ids]), "CAPro reads labels"),
        (lambda: CAPro()([x, x], [ids, ids], labels=[one, one]), "CAPro reads labels"),
        (lambda: CAPro(classes=["a"])([x, x], [ids, ids], labels=[one + 1, one]), "a label is a class 0 to 0"),
        (lambda: CAPro(classes=["a"])([x, x], [ids, ids], labels=[one[:2], one]), r"labels are \(n, K\), with n = 3"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)

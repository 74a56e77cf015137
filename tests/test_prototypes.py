"""Prototypes against a plain loop: softmax and sigmoid, learned vectors, a file's, and running means."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from align.losses import Prototypes, prototypes
from align.objective import Objective, Term
from align.values import Embeddings, Rows

names = ["red", "green", "blue"]


def unit(n: int, dim: int = 5, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, dtype=torch.float64, generator=draw), dim=1)


def padded(labels) -> torch.Tensor:
    most = max(map(len, labels))
    return torch.tensor([some + [-1] * (most - len(some)) for some in labels])


def loop(x, labels, vectors, scale, bias=None, weight=None, there=None) -> float:
    total, weights = 0.0, 0.0
    known = [c for c in range(len(vectors)) if there is None or there[c]]
    for i, row in enumerate(x.tolist()):
        positive = [c for c in labels[i] if c in known]
        if not positive:
            continue
        logits = {c: scale * sum(a * b for a, b in zip(row, vectors[c].tolist(), strict=True)) for c in known}
        if bias is None:
            norm = math.log(sum(math.exp(s) for s in logits.values()))
            value = sum(norm - logits[c] for c in positive) / len(positive)
        else:
            value = sum(math.log1p(math.exp((-1 if c in positive else 1) * (s + bias))) for c, s in logits.items())
        w = 1.0 if weight is None else weight[i]
        total, weights = total + w * value, weights + w
    return total / weights


@pytest.mark.parametrize("bias", [None, -0.7])
@pytest.mark.parametrize("there", [None, [True, False, True, True]])
def test_it_is_the_plain_loop_over_rows_with_several_labels_or_none(bias, there):
    x, vectors, weight = unit(7), unit(4, seed=2), [1.0, 2.0, 5.0, 0.5, 1.0, 3.0, 2.0]
    labels = [[0], [2, 1], [], [1], [0, 1], [2], [3, 0, 2]]
    more = {} if there is None else {"there": torch.tensor(there)}
    got = prototypes(
        x, padded(labels), vectors, 3.0, bias, weight=torch.tensor(weight),
        sample=torch.tensor([0, 1, 2, 3, -1, 5, 5]), **more,
    )  # fmt: skip
    labels[4] = []  # of id -1
    assert float(got) == pytest.approx(loop(x, labels, vectors, 3.0, bias, weight, there), abs=1e-12)


def table(labels, dim: int = 5) -> Embeddings:
    """Six samples: two rows of a picture for sample 1, a hard negative, no picture of 3."""
    owners = {"image": [0, 1, 1, 2, -1, 4, 5], "text": [0, 1, 2, 3, 4, 5]}
    rows = {m: Rows(unit(len(o), dim, seed=4 + i), torch.tensor(o)) for i, (m, o) in enumerate(owners.items())}
    return Embeddings(rows, [*"abcdef"], torch.arange(6), labels)


def objective(loss, between) -> Objective:
    return Objective({"hues": Term(loss, between)}, dim=5, batch=6, modalities=["image", "text"]).double()


frame = table([{"hue": "red"}, {"hue": ["blue", "green"]}, None, {"hue": "green"}, {"hue": "red"}, {"hue": "blue"}])
places = {"image": [[0], [2, 1], [2, 1], [], [], [0], [2]], "text": [[0], [2, 1], [], [1], [0], [2]]}


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_learned_vectors_are_trained_with_the_term(form):
    loss = Prototypes("hue", form=form)
    made = objective(loss, ["image", "text"])
    made.name_classes({"hue": names})
    made.double()
    total, values = made(frame)
    vectors, scale = F.normalize(loss.rows.detach(), dim=1), 10.0 if form == "sigmoid" else 1 / 0.07
    bias = -math.log(2) if form == "sigmoid" else None
    assert vectors.shape == (3, 5)
    for m in places:
        expected = loop(frame[m].values, places[m], vectors, scale, bias)
        assert float(values[f"hues/{m}"]) == pytest.approx(expected, rel=1e-6)
    total.backward()
    for p in made.parameters():
        assert p.grad is not None
        assert p.grad.abs().max() > 0
    again = objective(Prototypes("hue", form=form), ["image", "text"])
    again.load_state_dict(made.state_dict())  # before it knows a class
    again.name_classes({"hue": names})
    assert float(again(frame)[0].detach()) == float(total.detach())


def test_means_are_of_the_rows_of_a_class_in_the_batches_before():
    loss = Prototypes("hue", "means", momentum=0.75, classes=names)
    made = objective(loss, ["image"])
    first, _ = made(frame)
    assert float(first.detach()) == 0
    rows = frame["image"].values
    of = {0: [0, 5], 1: [1, 2], 2: [1, 2, 6]}  # the rows of each class
    means = torch.stack([sum(rows[i] for i in some) / len(some) for some in of.values()])
    torch.testing.assert_close(loss.rows, means)
    second = table([{"hue": "red"}] + [None] * 5)
    second.rows["image"] = second["image"]._replace(values=-second["image"].values.flip(0))
    moved = means.clone()
    moved[0] = 0.75 * means[0] + 0.25 * second["image"].values[0]
    value = made(second)[0].detach()
    assert float(value) == pytest.approx(
        loop(second["image"].values, [[0]] + [[]] * 6, F.normalize(means, dim=1), 1 / 0.07), abs=1e-6
    )
    torch.testing.assert_close(loss.rows, moved)
    made.eval()
    before = float(made(frame)[0].detach())
    assert before == pytest.approx(loop(rows, places["image"], F.normalize(moved, dim=1), 1 / 0.07), abs=1e-6)
    torch.testing.assert_close(loss.rows, moved)
    again = objective(Prototypes("hue", "means"), ["image"])
    again.load_state_dict(copy.deepcopy(made.state_dict()))
    again.name_classes({"hue": names})
    assert float(again.eval()(frame)[0].detach()) == before


def test_means_of_one_modality_and_of_finite_rows():
    loss = Prototypes("hue", "means", of="text", classes=names)
    made = objective(loss, ["image", "text"])
    broken = table([{"hue": "red"}] * 6)
    broken["text"].values[2] = math.nan
    made(broken)
    texts = torch.cat([broken["text"].values[:2], broken["text"].values[3:]])
    torch.testing.assert_close(loss.rows[0], texts.mean(0))
    assert loss.there.tolist() == [True, False, False]
    loss([unit(2)], [torch.tensor([-1, 0])], labels=[torch.tensor([[2], [1]])])  # a hard negative has no class
    assert loss.there.tolist() == [True, True, False]
    lost = objective(Prototypes("hue", "means", of="txt", classes=names), ["image", "text"])
    lost(frame)
    with pytest.raises(ValueError, match="of names 'txt'; the term is between image, text"):
        lost(frame)


def test_vectors_of_a_file_stay(tmp_path):
    from safetensors.torch import save_file

    path, given = tmp_path / "hues.safetensors", unit(4, seed=7).float()
    save_file(dict(zip(["blue", "red", "green", "mauve"], given, strict=True)), path)
    loss = Prototypes("hue", str(path), classes=names)
    made = objective(loss, ["text"])
    assert {name for name, _ in made.named_parameters()} == {"losses.hues.log_scale"}
    expected = loop(frame["text"].values, places["text"], given[[1, 2, 0]].double(), 1 / 0.07)
    assert float(made(frame)[0].detach()) == pytest.approx(expected, rel=1e-6)
    for classes, dim, words in (
        (["pink"], 5, "has no tensor of that name"),
        (names, 6, r"has the shape \(5,\) for it"),
    ):
        with pytest.raises(ValueError, match=words):
            Prototypes("hue", str(path), classes=classes).start(dim, 1, 4)


def test_what_does_not_fit_is_one_line():
    x, one = torch.randn(3, 2), torch.zeros(3, 1, dtype=torch.int64)
    for wrong, words in (
        (lambda: prototypes(x, one[:2], x, 1.0), r"labels are \(n, K\), with n = 3"),
        (lambda: prototypes(x, one + 3, x, 1.0), "a label is a class 0 to 2, or -1; got 3"),
        (lambda: Prototypes(form="hinge"), "form is 'softmax' or 'sigmoid'; got 'hinge'"),
        (lambda: Prototypes(momentum=1.0), "momentum is a number from 0 to below 1"),
        (lambda: Prototypes(of="text"), "of names the modality of vectors='means'; the vectors are 'learned'"),
        (lambda: Prototypes(classes=["a", "b", "a"]), "the class 'a' comes twice"),
        (lambda: Prototypes(vectors="mean", classes=["a"]).start(4, 1, 4), "'mean' is none"),
        (lambda: Prototypes(classes=["a"])([x], [one[:, 0]]), "Prototypes reads labels"),
        (lambda: Prototypes(classes=["a"])([x], [one[:, 0]], labels=[one]), "has no vectors yet"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)

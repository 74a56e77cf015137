"""Simplex against a plain loop, and labels on their way from a batch to a loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from align.losses import InfoNCE, Matryoshka, Simplex, simplex, simplex_vertices
from align.objective import Objective, Term
from align.objective.labels import find_places, gather_labels, label_rows
from align.values import Embeddings, Rows

names = ["red", "green", "blue"]


def table(labels, dim: int = 5) -> Embeddings:
    """Six samples: two rows of a picture for sample 1, a hard negative, no picture of 3."""
    draw = torch.Generator().manual_seed(4)
    owners = {"image": [0, 1, 1, 2, -1, 4, 5], "text": [0, 1, 2, 3, 4, 5]}
    rows = {
        m: Rows(F.normalize(torch.randn(len(o), dim, dtype=torch.float64, generator=draw), dim=1), torch.tensor(o))
        for m, o in owners.items()
    }
    return Embeddings(rows, [*"abcdef"], torch.arange(6), labels, weight=torch.arange(6) + 1.0)


@pytest.mark.parametrize(("count", "dim"), [(2, 1), (2, 4), (5, 4), (9, 12)])
def test_the_vertices_are_a_regular_simplex(count, dim):
    corners = simplex_vertices(count, dim)
    assert corners.shape == (count, dim)
    for i in range(count):
        for j in range(count):
            expected = 1.0 if i == j else -1 / (count - 1)
            assert float(corners[i] @ corners[j]) == pytest.approx(expected, abs=1e-12)
    assert not corners[:, count - 1 :].any()
    assert corners.sum(0).abs().max() < 1e-12


def test_the_vertices_stay_where_they_are():
    """Another simplex is as regular, but a model of an earlier version has its classes at these places."""
    found = simplex_vertices(3, 2)
    root = 2**-0.5
    expected = torch.tensor([[0.9659258, -0.2588190], [-0.2588190, 0.9659258], [-root, -root]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def loop(x, labels, weight, count: int, scale: float) -> float:
    corners = simplex_vertices(count, x.shape[1]).tolist()
    total, weights = 0.0, 0.0
    for row, places, w in zip(x.tolist(), labels, weight, strict=True):
        if not places:
            continue
        logits = [scale * sum(a * b for a, b in zip(row, corner, strict=True)) for corner in corners]
        norm = math.log(sum(math.exp(logit) for logit in logits))
        total += w * sum(norm - logits[p] for p in places) / len(places)
        weights += w
    return total / weights


def test_it_is_the_plain_loop_over_rows_with_several_labels_or_none():
    draw = torch.Generator().manual_seed(1)
    x = F.normalize(torch.randn(6, 5, dtype=torch.float64, generator=draw), dim=1)
    labels, weight = [[0], [2, 1], [], [1], [0, 1], [2]], [1.0, 2.0, 5.0, 0.5, 1.0, 3.0]
    padded = torch.tensor([some + [-1] * (2 - len(some)) for some in labels])
    got = simplex(x, padded, 4, 3.0, weight=torch.tensor(weight), sample=torch.tensor([0, 1, 2, 3, -1, 5]))
    labels[4] = []  # of id -1
    assert float(got) == pytest.approx(loop(x, labels, weight, 4, 3.0), abs=1e-12)


def test_a_term_reads_each_modality_alone_and_the_labels_of_its_rows():
    frame = table([{"hue": "red"}, {"hue": ["blue", "green"]}, None, {"hue": 1}, {"size": 2}, {"hue": "mauve"}])
    term = Term(Simplex("hue", classes=names, start_scale=2.0), {"image": 1.0, "text": 0.5})
    made = Objective({"classes": term}, dim=5, batch=6, modalities=["image", "text"])
    total, values = made(frame)
    labels = {"image": [[0], [2, 1], [2, 1], [], [], [], []], "text": [[0], [2, 1], [], [1], [], []]}
    weight = {"image": [1, 2, 2, 3, 1, 5, 6], "text": [1, 2, 3, 4, 5, 6]}
    each = {m: loop(frame[m].values, labels[m], weight[m], 3, 2.0) for m in labels}
    assert float(values["classes/image"]) == pytest.approx(each["image"], abs=1e-12)
    assert float(total) == pytest.approx(each["image"] + 0.5 * each["text"], abs=1e-12)
    assert float(values["classes/scale"]) == 2.0
    assert made.infos() == []
    assert made.contrasted == set()
    assert not [*made.parameters()]


def test_a_batch_without_a_known_class_gives_zero_gradients():
    frame = table([None] * 6)
    leaf = frame["image"].values
    assert isinstance(leaf, torch.Tensor)
    leaf.requires_grad_()
    made = Objective({"classes": Term(Simplex(classes=names), ["image"])}, dim=5, batch=6)
    total, _ = made(frame)
    total.backward()
    assert float(total.detach()) == 0
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_labels_are_names_or_places():
    assert find_places(["b", 0, ["a", "b", "a"], None, "c", 7, True], "label", ["a", "b"]).tolist() == [
        [1, -1], [0, -1], [0, 1], [-1, -1], [-1, -1], [-1, -1], [1, -1],
    ]  # fmt: skip
    assert find_places([1, "0"], "label", ["1", "0"]).tolist() == [[0], [1]]  # numerals are names
    assert find_places(["a"], "hue", ["a"]).shape == (1, 0)
    ids, places = gather_labels(table(["red", 2, None, "blue", "red", "green"]), "label", names)
    assert label_rows(torch.tensor([5, -1, 1, 9]), ids, places).tolist() == [[1], [-1], [2], [-1]]
    assert label_rows(torch.tensor([0]), ids[:0], places[:0]).tolist() == [[-1]]


def test_the_training_set_names_the_classes_that_a_config_does_not():
    inner = Matryoshka(Simplex("hue", size=3), [2, 5])
    stated = Simplex("hue", size=6, classes=["blue", "red"])
    made = Objective({"a": Term(inner, ["text"]), "b": Term(stated, ["text"]), "c": Term(InfoNCE(), "all")},
                     dim=5, batch=6, modalities=["image", "text"])  # fmt: skip
    assert made.needs_labels
    assert inner.attribute == "hue"
    with pytest.raises(ValueError, match="reads the classes of 'hue' and knows none"):
        made(table(["red"] * 6))
    with pytest.raises(ValueError, match="term 'a' reads the classes of 'hue'; there are size"):
        made.name_classes({"size": ["1"]})
    with pytest.raises(ValueError, match="term 'a': 4 classes need a size of as many vertices; size is 3"):
        made.name_classes({"hue": [*"abcd"]})
    made.name_classes({"hue": names})
    assert [[*part.classes] for part in inner.modules() if isinstance(part, Simplex)] == [names, names]
    assert [*inner.classes] == names
    assert [*stated.classes] == ["blue", "red"]
    assert made(table([{"hue": "red"}] * 6))[0].isfinite()
    again = copy.deepcopy(made).terms["a"].loss
    assert isinstance(again, Matryoshka)
    assert [*again.classes] == names


class Foreign(nn.Module):
    """A loss of one's own that reads labels: the share of rows with the first class."""

    kind, needs_labels, attribute = "classes", True, "hue"

    def forward(self, embeddings, samples, *, groups=None, weights=None, generator=None, labels=()):
        return 0 * embeddings[0].sum() + (labels[0] == 0).any(1).double().mean()


def test_a_loss_of_ones_own_gets_them_too():
    made = Objective({"one": Term(Foreign(), ["text"])}, dim=5, batch=6)
    made.name_classes({"hue": names})
    assert float(made(table([{"hue": "red"}] * 3 + [{"hue": "blue"}] * 3))[0]) == 0.5


def test_what_does_not_fit_is_one_line():
    x, one = torch.randn(3, 2), torch.zeros(3, 1, dtype=torch.int64)
    for wrong, words in (
        (lambda: simplex_vertices(1, 4), "2 vertices at least; got 1"),
        (lambda: simplex_vertices(5, 3), "5 vertices of a simplex need 4 coordinates; the embeddings have 3"),
        (lambda: simplex(x, one[:2], 3), r"labels are \(n, K\), with n = 3"),
        (lambda: simplex(x, one + 3, 3), "a label is a class 0 to 2, or -1; got 3"),
        (lambda: Simplex(size=1), "size is 2 vertices at least"),
        (lambda: Simplex(start_scale=0.0), "start_scale is a positive number"),
        (lambda: Simplex(classes=["a", "b", "a"]), "the class 'a' comes twice"),
        (lambda: Objective({"c": Term(Simplex(size=7), ["text"])}, dim=5, batch=4), "6 vertices at most; got 7"),
        (lambda: Simplex(classes=["a", "b"])([x], [one[:, 0]]), "Simplex reads labels"),
        (lambda: Objective({"c": Term(Simplex(classes=names), ["text"])}, dim=5, batch=6)(table([])),
         "set batch.labels, one for each of the 6 samples"),
        (lambda: Objective({"c": Term(Simplex(), [["image", "text"]])}, dim=5, batch=6), "contrasts the rows of one"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)

"""The FLOPS penalty and the codes evaluator against plain loops."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
from torch import nn

import align
from align import Features, JointModel, Tower
from align.data import Shards, ShardWriter
from align.evaluation.codes import cluster, match_words
from align.heads import Codebook, Lexical
from align.losses import Flops, flops
from align.metrics import average_precision
from align.preprocess import Array


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def penalty(x, weight):
    total = 0.0
    for d in range(x.shape[1]):
        mean = sum(weight[i] * x[i, d].abs() for i in range(len(x))) / weight.sum()
        total = total + mean * mean
    return total


@pytest.mark.parametrize("weighted", [False, True])
def test_flops_is_the_loop(weighted):
    x, y = draw(6, 4).requires_grad_(), draw(5, 4, seed=1).requires_grad_()
    wx, wy = (
        torch.rand(len(z), dtype=torch.float64) if weighted else torch.ones(len(z), dtype=torch.float64) for z in (x, y)
    )
    given = {"weights": [wx, wy]} if weighted else {}
    got = Flops([0.5, 2.0])([x, y], [torch.arange(6), torch.arange(5)], **given)
    expected = 0.5 * penalty(x, wx) + 2 * penalty(y, wy)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(torch.autograd.grad(got, [x, y]), torch.autograd.grad(expected, [x, y]), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_flops_of_no_rows_and_of_no_weight_is_zero():
    x = draw(0, 4).requires_grad_()
    assert flops(x).item() == 0
    assert torch.autograd.grad(flops(x), x)[0].shape == (0, 4)
    y = draw(3, 4).requires_grad_()
    assert flops(y, weight=torch.zeros(3, dtype=torch.float64)).item() == 0
    with pytest.raises(ValueError, match="factors are two numbers, 0 or more"):
        Flops([1.0, -1.0])


def test_the_penalty_and_the_contrast_make_zeros():
    """Rows of a pair agree, and the penalty leaves each fewer entries than the contrast alone does."""
    counts = []
    for weight in (0.0, 3.0):
        torch.manual_seed(0)
        head, x = Lexical(8, 16), torch.randn(32, 8)
        optimizer = torch.optim.Adam(head.parameters(), 0.05)
        for _ in range(40):
            rows = nn.functional.normalize(head(Features(x)), dim=1, eps=1e-6)
            loss = align.losses.infonce(rows, rows.detach(), torch.tensor(10.0)) + weight * flops(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        counts.append(float((head(Features(x)) > 0).sum(1).float().mean()))
    assert 0 < counts[1] < counts[0] - 1


def test_a_word_gets_the_code_that_tells_it():
    torch.manual_seed(1)  # a seed whose second word has other candidates in the other half
    members = torch.rand(40, 3) < 0.4
    codes = torch.rand(40, 20) * 0.1
    codes[:, 3] += members[:, 0].float()  # a code that is the word
    codes[:, 1] += members[:, 1].float() * torch.arange(40) % 2  # one that is it in the odd rows alone
    members[::2, 2] = False  # a word that the first half does not have
    half = torch.arange(40) % 2 == 0
    found = match_words(codes, members, [("a", "x"), ("a", "y"), ("b", "z")], half)
    assert [(word.attribute, word.word) for word in found] == [("a", "x"), ("a", "y")]
    assert (found[0].code, found[0].ap) == (3, 1.0)
    assert found[0].chance == pytest.approx(float(members[1::2, 0].double().mean()))
    has = members[:, 1]
    apart = [float(codes[half & has, c].mean() - codes[half & ~has, c].mean()) for c in range(20)]
    few = sorted(range(20), key=lambda c: -apart[c])[:8]
    best = max(few, key=lambda c: average_precision(codes[half, c], has[half]))
    assert best != 1  # chosen on the even rows, where code 1 tells nothing
    assert (found[1].code, found[1].ap) == (best, average_precision(codes[~half, best], has[~half]))


def test_clusters_are_found_again():
    centres = nn.functional.normalize(draw(4, 6, seed=3), dim=1)
    of = torch.arange(40) % 4
    rows = 3 * centres[of] + 0.05 * draw(40, 6, seed=4)
    scores = cluster(rows, 8, seed=0)
    assert scores.shape == (40, 8)
    nearest = scores.argmax(1)
    assert all(len({int(o) for o in of[nearest == c]}) == 1 for c in nearest.unique())


class Words(nn.Module):
    width = 6

    def forward(self, x):
        return Features(x, torch.stack([x, x * 0], 1))


def test_the_evaluator_lists_the_words_of_each_code(tmp_path):
    """A lexical head whose dimension i is attribute i tells it, a dense one is given centres, holes are left out."""
    with ShardWriter(tmp_path / "s", "test", per_shard=50) as writer:
        for i in range(48):
            a, b = i // 2 % 3, i // 6 % 3
            row = torch.zeros(6)
            row[[a, 3 + b]] = 1.0
            members = {"json": json.dumps({"label": {"shape": "abc"[a], "color": "xyz"[b]}}).encode()}
            for m in ("image", "text"):
                if i % 5 or m == "text":
                    members[f"{m}.npy"] = tiny.npy(row.numpy())
            writer.write(f"k{i}", members)
    model = JointModel({"image": Tower(Array((6,)), Words(), Lexical), "text": Tower(Array((6,)), Words())}, 6)
    with torch.no_grad():
        model.towers["image"].head.project.weight.copy_(torch.eye(6))
        model.towers["image"].head.project.bias.zero_()
    results = align.evaluate(model, Shards(tmp_path / "s" / "test-*.tar"), with_=["codes"], draws=0)
    scores = results.scores
    assert scores["codes/image/word_ap"] == 1.0
    assert (scores["codes/image/nonzeros"], scores["codes/image/live"]) == (2.0, 6.0)
    assert scores["codes/image/word_ap/chance"] == pytest.approx(1 / 3, abs=0.05)
    assert "codes/text/nonzeros" not in scores
    assert scores["codes/text/word_ap"] > 0.5
    assert any("codes of text: cosines with" in note for note in results.protocol["notes"])


def test_the_codes_of_a_codebook_are_its_weights(tmp_path):
    tiny.write(tmp_path / "s", "test", 12, missing=0.3)
    torch.manual_seed(0)
    model = JointModel({m: Tower(Array((6,)), Words(), lambda w, d: Codebook(w, d, 5)) for m in ("image", "text")}, 4)
    table = align.evaluation.Space(model, Shards(tmp_path / "s" / "test-*.tar")).table("codes")
    for m in ("image", "text"):
        assert table[m].values.shape == (len(table[m].sample), 5)
        torch.testing.assert_close(table[m].values.sum(1), torch.ones(len(table[m].sample)))

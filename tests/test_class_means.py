"""Class means against a plain loop: own samples left out, several classes a row, classes without a mean."""

import math

import pytest
import torch
from tiny_space import model, world, write_tar

import align
from align.evaluation.class_means import tell_by_means


def loop(query, query_sample, rows, row_sample, members):
    def unit(v):
        return [x / math.sqrt(sum(y * y for y in v)) for x in v]

    scores = []
    for q, s in zip(query.tolist(), query_sample.tolist(), strict=True):
        line = []
        for k in range(members.shape[1]):
            others = [
                unit(r)
                for r, t in zip(rows.tolist(), row_sample.tolist(), strict=True)
                if bool(members[t, k]) and t != s
            ]
            if not others:
                line.append(-math.inf)
                continue
            mean = unit([sum(column) / len(others) for column in zip(*others, strict=True)])
            line.append(sum(a * b for a, b in zip(unit(q), mean, strict=True)))
        scores.append(line)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_means_equal_a_plain_loop(seed):
    draw = torch.Generator().manual_seed(seed)
    members = torch.rand(12, 4, generator=draw) < 0.4
    members[:, 3] = False
    members[5, 3] = True  # a class of one sample: its own query cannot be told it
    query_sample = torch.tensor([0, 1, 2, 3, 4, 5, 5])
    row_sample = torch.tensor([9, 5, 2, 2, 7, 8, 1, 10, 11])
    query = torch.randn(7, 6, generator=draw)
    rows = torch.randn(9, 6, generator=draw)
    scores, right = tell_by_means(query, query_sample, rows, row_sample, members)
    expected = loop(query, query_sample, rows, row_sample, members)
    assert torch.equal(scores.isfinite(), expected.isfinite())
    assert torch.allclose(scores[scores.isfinite()], expected[expected.isfinite()], atol=1e-12)
    assert torch.equal(right, members[query_sample])
    assert scores[5, 3] == -math.inf


def test_an_evaluation_tells_classes_between_every_two_modalities(tmp_path):
    shards = align.Shards(str(write_tar(tmp_path / "test-000000.tar", world(24))), shuffle=False)
    results = align.evaluate(model("pairwise"), shards, with_=["class-means"])
    names = {name for name in results.scores if name.endswith("/accuracy") and "/kind/" in name}
    pairs = [(a, b) for a in ("image", "audio", "text") for b in ("image", "audio", "text") if a != b]
    assert names == {f"class-means/kind/{a}_to_{b}/accuracy" for a, b in pairs}
    assert results.scores["class-means/kind/image_to_audio/accuracy"] > 0.9
    ((bars,),) = [section.blocks for section in results.sections]
    assert {bar.column for bar in bars.bars} == {f"{a} → {b}" for a, b in pairs}
    assert results.scores["class-means/kind/image_to_audio/chance"] == pytest.approx(1 / 6)
    assert "class-means/half/image_to_audio/accuracy@5" not in results.scores  # there are two classes


def test_a_constant_space_tells_no_class(tmp_path):
    shards = align.Shards(str(write_tar(tmp_path / "test-000000.tar", world(24))), shuffle=False)
    flat = model("pairwise")
    for tower in flat.towers.values():
        tower.head = Constant()
    results = align.evaluate(flat, shards, with_=["class-means"])
    assert {v for name, v in results.scores.items() if not name.endswith("/chance")} == {0.0}
    assert all(not values.any() for values, _ in results.samples.values())
    assert {low for low, _ in results.intervals.values()} == {0.0}


class Constant(torch.nn.Module):
    """A head whose embeddings are all equal."""

    def forward(self, features, tokens=False):
        return torch.ones(len(features.pooled), 8)


def test_a_class_of_the_own_rows_alone_has_no_mean():
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    members = torch.tensor([[True, False, False], [False, True, False]])  # no sample has the last class
    scores, _ = tell_by_means(rows[:1], torch.tensor([0]), rows, torch.tensor([0, 0, 1]), members)
    assert scores[0, 0] == scores[0, 2] == -math.inf
    assert scores[0, 1].isfinite()

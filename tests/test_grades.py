"""Grades of pairs: from the json to a batch, through workers, slices and ranks, and into the losses."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from test_infonce import loop as infonce_loop
from test_siglip import loop as siglip_loop
from torch import Tensor

from align.data import Loader, Shards, ShardWriter, collate, join
from align.data.meta import read_meta
from align.losses import Hinge, InfoNCE, MemoryQueue, SigLIP, Symile, Window, hinge, symile
from align.losses.kernels.rule import Rule, Seen
from align.objective import Objective, Term
from align.preprocess import Bytes
from align.values import Embeddings, Rows

dim = 4
good, partial, exclude, bad = range(4)


@pytest.mark.parametrize(
    ("stated", "found", "sound"),
    [
        (None, {}, True),
        ({}, {}, True),
        ({"audio+points": "good", "points+image": "bad"}, {"audio+points": good, "image+points": bad}, True),
        ({"b+a": "partial", "a+b": "exclude"}, {"a+b": exclude}, True),  # the worse of two
        ({"a+b": "poor", "a+c": "bad"}, {"a+c": bad}, False),
        ({"a+b": 3}, {}, False),
        ({"a+a": "bad"}, {}, False),
        ({"a": "bad", "a+b+c": "bad", "+b": "bad"}, {}, False),
        ("bad", {}, False),
        (["a+b"], {}, False),
    ],
)
def test_words_are_read(stated, found, sound):
    meta, reasons = read_meta({"json": json.dumps({"grade": stated}).encode()}, {})
    assert (dict(meta.grade), reasons) == (found, [] if sound else ["json/grade"])


def sample(i: int, **about):
    more = {"json": json.dumps(about).encode()} if about else {}
    return {"__key__": f"k{i}", "__url__": "a.tar", "__index__": i, "text.txt": b"a", "word.txt": b"b", **more}


def readers():
    return {"text": Bytes(4), "word": Bytes(4)}


def test_a_batch_has_a_column_for_each_pair_that_a_sample_states():
    stated = [{}, {"grade": {"word+text": "bad"}}, {"label": 1}, {"grade": {"text+word": "partial", "a+b": "bad"}}]
    found = collate(
        [sample(i, **s) for i, s in enumerate(stated)], readers(), positions=[4, 5, 6, 7], train=False, seed=0, epoch=0
    )
    assert {k: v.tolist() for k, v in found.grade.items()} == {"text+word": [0, 3, 0, 1], "a+b": [0, 0, 0, 3]}
    assert {k: v.tolist() for k, v in found.slice(1, 3).grade.items()} == {"text+word": [3, 0], "a+b": [0, 0]}
    plain = collate([sample(0), None], readers(), positions=[2, 3], train=False, seed=0, epoch=0)
    assert plain.grade is None
    assert plain.slice(0, 1).grade is None
    together = join([found, plain])
    assert together.position.tolist() == [2, 3, 4, 5, 6, 7]
    assert together.grade["text+word"].tolist() == [0, 0, 0, 3, 0, 1]
    assert join([plain, plain]).grade is None
    assert found.to(torch.float16).grade["a+b"].dtype == torch.int64


def test_workers_and_kept_samples_have_them(tmp_path):
    with ShardWriter(tmp_path, "train", per_shard=9) as writer:
        for i in range(18):
            word = ("good", "partial", "exclude", "bad")[i % 4]
            about = {"grade": {"text+word": word}} if i % 3 else {}
            writer.write(f"{i:03d}", {"text.txt": b"a", "word.txt": b"b", "json": json.dumps(about).encode()})
    shards = Shards(f"{tmp_path}/train-*.tar", seed=1)
    loader = Loader(shards, readers(), batch=6, workers=2, train=True, steps=6, keep=1 << 20, numbers=True)
    seen = 0
    for step, batch in enumerate(loader):  # two epochs: the second is kept
        epoch = step // 3
        for i, position in enumerate(batch.position.tolist()):
            number = shards.number(position, epoch)
            assert int(batch.number[i]) == number == int(batch.ids[i])
            assert int(batch.grade["text+word"][i]) == (number % 4 if number % 3 else 0)
            seen += 1
    loader.close()
    assert seen == 36


def test_the_writer_refuses_a_grade_that_nobody_can_read(tmp_path):
    with (
        ShardWriter(tmp_path, "train") as writer,
        pytest.raises(ValueError, match="json/grade: label, group, weight or gr"),
    ):
        writer.write("a", {"text.txt": b"a", "json": b'{"grade": {"text+word": "worse"}}'})


owners = {"audio": [0, 1, 2, 3, 4, 5], "points": [0, 1, 1, 2, 3, 4, -1], "text": [0, 2, 3, 4, 5]}
codes = [good, partial, exclude, bad, bad, good]
group = torch.tensor([7, 7, -1, 9, -1, 9])


def table(grouped: bool = True, **columns: list[int]) -> tuple[Embeddings, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    xs = {
        m: F.normalize(torch.randn(len(o), dim, dtype=torch.float64, generator=draw), dim=1).requires_grad_()
        for m, o in owners.items()
    }
    rows = {m: Rows(x, torch.tensor(owners[m])) for m, x in xs.items()}
    grade = {pair.replace("_", "+"): torch.tensor(column) for pair, column in columns.items()} or None
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 3.0])
    made = Embeddings(rows, ["x"] * 6, torch.arange(6), group=group if grouped else None, weight=weight, grade=grade)
    return made, xs


def by_hand(m: str, others: int, grouped: bool) -> dict[str, Tensor]:
    """Ids, groups and weights of a side as the grades of ``codes`` have them."""
    owner = torch.tensor(owners[m])
    grade = torch.where(owner >= 0, torch.tensor(codes)[owner.clamp(min=0)], 0)
    ids = torch.where(grade >= exclude, 100 * (others + 1) + owner, owner)
    kinds = group[owner.clamp(min=0)] if grouped else torch.full_like(owner, -1)
    kinds = torch.where((grade == exclude) & (kinds < 0), 1000 + owner, kinds)
    weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 3.0])[owner.clamp(min=0)]
    weight = torch.where(grade == partial, weight * 0.5, weight)
    return {"sample": ids, "group": torch.where(owner >= 0, kinds, -1), "weight": torch.where(owner >= 0, weight, 1.0)}


def sides(names: tuple[str, ...], grouped: bool) -> dict[str, Tensor]:
    out = {}
    for side, (k, m) in zip("ab", enumerate(names), strict=True):
        out |= {f"{name}_{side}": x for name, x in by_hand(m, k, grouped).items()}
    return out


def same(objective: Objective, made: Embeddings, expected: Tensor, xs: list[Tensor]) -> None:
    got, _ = objective(made)
    torch.testing.assert_close(got, expected.reshape(()), rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(x, xs, allow_unused=True) for x in (got, expected)]
    torch.testing.assert_close(*([g for g in each if g is not None] for each in grads), rtol=1e-10, atol=1e-12)


def make(loss, between=("audio", "points"), **term) -> Objective:
    return Objective({"t": Term(loss, [*between], **term)}, dim=dim, batch=6, modalities=[*owners]).double()


@pytest.mark.parametrize("grouped", [False, True])
def test_infonce_equals_a_loop_over_graded_pairs(grouped):
    made, xs = table(grouped, audio_points=codes)
    objective = make(InfoNCE(start_scale=5.0))
    scale = objective.losses["t"].scale
    expected = infonce_loop(xs["audio"], xs["points"], scale, **sides(("audio", "points"), grouped))
    same(objective, made, expected, [xs["audio"], xs["points"]])
    assert objective(made)[0] != objective(table(grouped)[0])[0]


@pytest.mark.parametrize("grouped", [False, True])
def test_siglip_pushes_a_bad_pair_apart_whatever_its_group(grouped):
    """The loop leaves pairs of one group out, so it is told that the rows of a bad pair have none in common."""
    made, xs = table(grouped, audio_points=codes)
    objective = make(SigLIP(start_scale=5.0, start_bias=-1.0), between=("points", "audio"))
    loss = objective.losses["t"]
    more = sides(("points", "audio"), grouped)
    expected = siglip_loop(xs["points"], xs["audio"], loss.scale, loss.bias, **more)
    weights, divisor = (more["weight_a"], more["weight_b"]), (more["weight_a"].sum() + more["weight_b"].sum()) / 2
    if grouped:
        for i, a in enumerate(owners["points"]):
            for j, b in enumerate(owners["audio"]):
                if a == b and a >= 0 and codes[a] == bad and group[a] >= 0:  # the loop took them for one group
                    s = loss.scale * (xs["points"][i] * xs["audio"][j]).sum() + loss.bias
                    expected = expected + (weights[0][i] + weights[1][j]) / 2 * F.softplus(s).sum() / divisor
    same(objective, made, expected, [xs["audio"], xs["points"]])


def test_a_bad_pair_has_no_row_of_its_own_that_a_window_could_ask():
    made, _ = table(False, audio_points=[bad] * 6)
    narrow, plain = (make(loss)(made)[0] for loss in (Window(SigLIP(), "points", -0.1, 0.0), SigLIP()))
    assert torch.equal(narrow, plain)


def test_other_pairs_and_losses():
    made, xs = table(True, audio_text=codes, image_points=[bad] * 6)
    plain, _ = table()
    assert torch.equal(make(InfoNCE())(made)[0], make(InfoNCE())(plain)[0])  # audio and points have no grade
    assert make(InfoNCE(), ("audio", "text"))(made)[0] != make(InfoNCE(), ("audio", "text"))(plain)[0]
    objective = make(Hinge(), ("audio", "text"))
    same(objective, made, hinge(xs["audio"], xs["text"], **sides(("audio", "text"), True)), [xs["audio"], xs["text"]])
    queue = make(MemoryQueue(InfoNCE(), 8), ("audio", "text"))
    torch.testing.assert_close(queue(made)[0], make(InfoNCE(), ("audio", "text"))(made)[0], rtol=1e-12, atol=0)
    assert queue(made)[0].isfinite()


@pytest.mark.parametrize("kind", ["all", "partial"])
def test_a_tuple_has_the_worst_grade_of_its_pairs(kind):
    first = [good, partial, good, good, good, good]
    second = [good, good, exclude, bad, good, partial]
    third = [good, good, good, good, bad, good]
    made, xs = table(True, audio_points=first, audio_text=second, points_text=third)
    objective = make(Symile(kind, start_scale=4.0), ("audio", "points", "text"), partial=0.25)
    worst = [max(x) for x in zip(first, second, third, strict=True)]
    assert worst == [good, partial, exclude, bad, bad, partial]
    parts = []
    for k, m in enumerate(owners):
        owner = torch.tensor(owners[m])
        grade = torch.where(owner >= 0, torch.tensor(worst)[owner.clamp(min=0)], 0)
        ids = torch.where(grade >= exclude, 100 * (k + 1) + owner, owner)
        kinds = torch.where(owner >= 0, group[owner.clamp(min=0)], -1)
        kinds = torch.where((grade == exclude) & (kinds < 0), 1000 + owner, kinds)
        weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 3.0])[owner.clamp(min=0)]
        weight = torch.where(owner >= 0, torch.where(grade == partial, weight / 4, weight), 1.0)
        parts.append((ids, kinds, weight))
    ids, kinds, weights = (list(x) for x in zip(*parts, strict=True))
    expected = symile(
        [*xs.values()], objective.losses["t"].scale, negatives=kind, samples=ids, groups=kinds, weights=weights
    )
    same(objective, made, expected, [*xs.values()])


def test_partial_is_a_weight():
    with pytest.raises(ValueError, match="partial is a weight of at least 0; got -1"):
        Term(InfoNCE(), "all", partial=-1)


def test_stats_count_grades(tmp_path, capsys):
    from align.commands import main

    with ShardWriter(tmp_path, "train") as writer:
        for i, word in enumerate(("bad", "bad", "partial")):
            writer.write(
                f"{i}", {"text.txt": b"a", "word.txt": b"b", "json": b'{"grade": {"text+word": "%s"}}' % word.encode()}
            )
    assert main(["shards", "stats", str(tmp_path)]) == 0
    assert "text+word: 2 bad, 1 partial" in capsys.readouterr().out


def test_a_rule_says_nothing_of_rows_that_are_added():
    ids = torch.tensor([0, 1]), torch.tensor([0])
    rule = Rule(alike=(ids[0][:, None], ids[1][:, None]), against=ids).pad([1, 2])
    assert [x.tolist() for x in rule.against or ()] == [[0, 1, -1], [0, -1, -1]]
    assert [x[:, 0].tolist() for x in rule.alike or ()] == [[0, 1, -1], [0, -1, -1]]


def test_the_ends_of_a_window_are_inside_it():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    seen = Seen(0, rows, torch.ones(3), rows[None, :1], 0.0, 1.0)
    assert seen.outside(slice(None), slice(None))[:, 0].tolist() == [False, False, True]
    assert seen._replace(high=0.0).outside(slice(None), slice(None))[:, 0].tolist() == [True, False, True]

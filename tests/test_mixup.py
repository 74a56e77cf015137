"""Mixup of inputs and features against a loop over rows, through a model and through a run's training step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders import TransformerText
from align.losses import InfoNCE
from align.losses.wrappers.metrix import draw_order
from align.losses.wrappers.mix_geodesic import shares
from align.model import JointModel, Tower
from align.model.mixup import Mixup, check_mixup, draw_partners, follow_partners, mix_features, mix_values, move_rows
from align.objective import Objective, Term
from align.preprocess import Array, Bytes, Tokens
from align.values import Batch, Features, Rows


class Cubed(nn.Module):
    """An encoder that is not linear, so that mixed inputs are no mixed features."""

    width = 3

    def forward(self, values: Tensor) -> Features:
        return Features(values**3)


owners = {"image": [0, 1, 1, 2, -1, 4], "sound": [0, 1, 2, 3, 4]}


def made() -> tuple[JointModel, Batch, Objective]:
    torch.manual_seed(0)
    model = JointModel({m: Tower(Array((3,)), Cubed()) for m in owners}, 4).double()
    rows = {m: Rows(torch.randn(len(o), 3).double(), torch.tensor(o)) for m, o in owners.items()}
    batch = Batch(rows, [*"abcde"], torch.arange(5))
    return model, batch, Objective({"pair": Term(InfoNCE(), [*owners])}, dim=4, batch=5).double()


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loop(a: Tensor, b: Tensor, of_a: list[int], of_b: list[int], scale: float) -> float:
    logits, total = scale * a @ b.T, 0.0
    for s, i, j in ((logits, of_a, of_b), (logits.T, of_b, of_a)):
        costs = []
        for k, row in enumerate(s):
            right = [n for n, other in enumerate(j) if other == i[k] and other >= 0]
            if right:
                costs.append(float(row.logsumexp(0) - row[right].mean()))
        total += sum(costs) / len(costs) / 2
    return total


@pytest.mark.parametrize("at", ["input", "features"])
@pytest.mark.parametrize("of", [["image"], ["image", "sound"]])
def test_it_is_the_loop_over_mixed_rows_of_both_samples(at, of):
    model, batch, objective = made()
    mixup = Mixup(of, at, alpha=0.6, weight=0.5)
    got = mixup(model, batch, lambda e: objective(e)[0], shared=draws(1), local=draws(2))
    share, local = float(shares(0.6, 1, draws(1))[0]), draws(2)
    embedded, second = {}, {}
    for m, owner in owners.items():
        order = draw_order(torch.tensor(owner), local).tolist() if m in of else [*range(len(owner))]
        x, head = batch[m].values, model.towers[m].head
        if at == "input":
            features = [(share * x[k] + (1 - share) * x[order[k]]) ** 3 for k in range(len(owner))]
        else:
            features = [share * x[k] ** 3 + (1 - share) * x[order[k]] ** 3 for k in range(len(owner))]
        embedded[m] = F.normalize(head(Features(torch.stack(features))).detach(), dim=1)
        second[m] = [owner[k] for k in order]
        if m in of:
            assert second[m] != owner
    scale = 1 / 0.07
    both = [loop(*embedded.values(), *ids.values(), scale) for ids in (owners, second)]
    assert float(got.detach()) == pytest.approx(0.5 * (share * both[0] + (1 - share) * both[1]), rel=1e-6)
    got.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_rows_move_to_their_partner_and_negatives_stay_behind_their_owner():
    rows = Rows(torch.arange(6.0), torch.tensor([0, 1, 1, -1, 2, 4]), content=torch.arange(6))
    order = torch.tensor([4, 0, 5, 3, 1, 2])
    moved = move_rows(rows, order)
    assert moved.sample.tolist() == [0, 1, -1, 1, 2, 4] or moved.sample.tolist() == [0, 1, 1, -1, 2, 4]
    for value, sample in zip(moved.values.tolist(), moved.sample.tolist(), strict=True):
        assert sample == rows.sample[order][int(value)]
    assert moved.content.tolist() == moved.values.tolist()
    assert int(moved.owner[moved.sample < 0]) == 1


def test_integers_are_rounded_and_tokens_mix_where_they_are_real():
    got = mix_values(torch.tensor([[10, 250], [21, 0]], dtype=torch.uint8), torch.tensor([1, 0]), 0.25, "image")
    assert got.dtype == torch.uint8
    assert got.tolist() == [[18, 62], [13, 188]]
    mask = torch.tensor([[True, False], [False, False]])
    made = mix_features(Features(torch.eye(2), torch.ones(2, 2, 1), mask), torch.tensor([1, 0]), 0.25)
    assert made.pooled.tolist() == [[0.25, 0.75], [0.75, 0.25]]
    assert made.mask.tolist() == [[True, False], [True, False]]


def test_captions_join_and_keep_their_end():
    for reader in (Bytes(32), Tokens(12)):
        rows = [reader.collate([reader.eval(x) for x in some]) for some in (["a dog barks", "rain"], ["wind", "a cat"])]
        expected = [reader.eval("a dog barks and wind"), reader.eval("rain and a cat")]
        assert torch.equal(reader.join(*rows), torch.stack(expected))
        assert reader.join(rows[0][:0], rows[1][:0]).shape == (0, reader.context)
    short = Bytes(8)
    assert torch.equal(short.join(short.eval("rain")[None], short.eval("wind")[None])[0], short.eval("rain and wind"))


def test_rows_take_their_partners_rows_in_a_ring():
    got = follow_partners(torch.tensor([0, 0, -1, 1, 1, 1, 4]), torch.tensor([1, 0, 2, 3, 4]))
    assert got.tolist() == [3, 4, 2, 0, 1, 0, 6]


@pytest.mark.parametrize("at", ["input", "features"])
def test_mixed_sounds_meet_joined_captions(at):
    torch.manual_seed(0)
    text = Tower(Bytes(24), TransformerText(context=24, width=8, depth=1, heads=1))
    model = JointModel({"sound": Tower(Array((3,)), Cubed()), "text": text}, 4).double()
    words, ids = ["dog", "bark", "rain", "wind", "odd"], [0, 0, 1, 3, -1]
    sound = Rows(torch.randn(4, 3).double(), torch.tensor([0, 1, 2, 3]))
    text_rows = Rows(Bytes(24).collate([Bytes(24).eval(w) for w in words]), torch.tensor(ids))
    batch = Batch({"sound": sound, "text": text_rows}, [*"abcd"], torch.arange(4))
    objective = Objective({"pair": Term(InfoNCE(), ["sound", "text"])}, dim=4, batch=4).double()
    mixup = Mixup(["sound"], at, weight=0.5, join=["text"])
    got = mixup(model, batch, lambda e: objective(e)[0], shared=draws(1), local=draws(4))
    share = float(shares(1.0, 1, draws(1))[0])
    partner = draw_partners([sound.sample, torch.tensor(ids)], 4, draws(4)).tolist()
    assert sorted(partner) == [0, 1, 2, 3]
    assert partner[2] == 2  # without a caption
    assert partner[0] != 0
    captions = []
    for k, (word, s) in enumerate(zip(words, ids, strict=True)):
        others = [w for w, t in zip(words, ids, strict=True) if s >= 0 and t == partner[s]]
        captions.append(word if s < 0 or partner[s] == s else f"{word} and {others[k % len(others) if s == 0 else 0]}")
    x = sound.values
    mixed = [share * f + (1 - share) * g for f, g in zip(x, x[partner], strict=True)]
    if at == "features":
        mixed = [share * f**3 + (1 - share) * g**3 for f, g in zip(x, x[partner], strict=True)]
    pooled = torch.stack(mixed) if at == "features" else torch.stack(mixed) ** 3
    a = F.normalize(model.towers["sound"].head(Features(pooled)).detach(), dim=1)
    expected = loop(a, model.embed(text=captions)["text"], [0, 1, 2, 3], ids, 1 / 0.07)
    assert float(got.detach()) == pytest.approx(0.5 * expected, rel=1e-6)


def test_what_does_not_fit_is_one_line():
    for wrong, words in (
        (lambda: Mixup([]), "of names a modality or more"),
        (lambda: Mixup(["image"], "embedding"), "at is 'input' or 'features'; got 'embedding'"),
        (lambda: Mixup(["image"], alpha=0), "alpha is a positive number; got 0"),
        (lambda: Mixup(["image"], weight=-1.0), "weight is a positive number"),
        (lambda: Mixup(["image"], join=["image"]), "image stands in of and in join"),
        (lambda: Array((3,)).join(torch.ones(1, 3), torch.ones(1, 3)), "rows of Array do not join"),
        (
            lambda: check_mixup(Mixup(["video"]), None, ["image", "text"]),
            "mixup names 'video'; the model has image, text",
        ),
        (lambda: check_mixup(Mixup(["image"]), 8, ["image"]), "take one of both away"),
        (
            lambda: mix_values(torch.ones(2, 3, dtype=torch.int64), torch.arange(2), 0.5, "text"),
            "'text' are torch.int64 ids",
        ),
        (lambda: mix_values({"a": torch.ones(2)}, torch.arange(2), 0.5, "text"), "'text' are a dict"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            wrong()
        assert "\n" not in str(error.value)
    check_mixup(None, 8, ["image"])


def test_a_training_step_adds_the_mixed_loss():
    from align.lit.module import AlignModule
    from align.seeds import generator

    model, batch, objective = made()
    mixup = Mixup(["image"], "features")
    plain, mixed = (AlignModule(model, objective, seed=3, mixup=m) for m in (None, mixup))
    expected = plain.training_step(batch, 0) + mixup(
        model, batch, lambda e: objective(e)[0], shared=generator(3, 0, "mixup"), local=generator(3, 0, "mixup", 0)
    )
    torch.testing.assert_close(mixed.training_step(batch, 0), expected)
    assert float(mixed.values["loss"]) == float(expected.detach())

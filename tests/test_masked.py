"""Masked: predictions of masked tokens, a teacher that follows, and the loss between them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parts import in_parts, joined
from torch import nn

import align
from align import JointModel, Objective, Term, Tower
from align.checkpoint import start_from
from align.encoders import ImageCNN, Masked, SpectrogramCNN
from align.lit import fit
from align.losses import InfoNCE, MaskedTokens, masked_tokens
from align.objective.encoders import check_encoders
from align.preprocess import Array
from align.values import Batch, Features, Rows


class Cells(nn.Module):
    """(n, 4, 6) to tokens of 2 x 3 cells of 2 x 2 numbers each, that a linear layer reads one by one."""

    def __init__(self, width: int = 5):
        super().__init__()
        self.width, self.net = width, nn.Linear(4, width)

    def forward(self, values):
        cells = values.unflatten(2, (3, 2)).unflatten(1, (2, 2)).transpose(2, 3).flatten(3).flatten(1, 2)
        tokens = torch.tanh(self.net(cells))  # (n, 6, W)
        return Features(tokens.mean(1), tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


def made(ratio: float = 0.5, momentum: float = 0.75) -> Masked:
    torch.manual_seed(0)
    encoder = Masked(Cells(), [2, 3], ratio, momentum).double()
    with torch.no_grad():
        encoder.encoder.net.weight.mul_(2)  # the teacher is another one
    return encoder


def test_tokens_are_predictions_without_the_masked_cells_and_the_teacher_s():
    encoder, x = made(), torch.randn(4, 4, 6, dtype=torch.float64) + 3
    old = encoder.teacher.net.weight.clone()
    pooled, tokens, mask = encoder(x)
    torch.testing.assert_close(encoder.teacher.net.weight, 0.75 * old + 0.25 * encoder.encoder.net.weight)
    torch.testing.assert_close(pooled, encoder.encoder(x).pooled)
    assert mask.sum(1).tolist() == [6] * 4  # three of six cells, in both halves
    assert torch.equal(mask[:, :6], mask[:, 6:])
    assert len({tuple(row) for row in mask.tolist()}) > 1
    for i in range(4):
        seen = x[i].clone()
        for cell in range(6):
            if mask[i, cell]:
                r, c = divmod(cell, 3)
                seen[2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = 0
        torch.testing.assert_close(tokens[i, :6], encoder.predictor(encoder.encoder(seen[None]).tokens)[0])
        torch.testing.assert_close(tokens[i, 6:], encoder.teacher(x[i][None]).tokens[0])
    grads = torch.autograd.grad(pooled.sum(), [*encoder.predictor.parameters()])  # zeros, never None
    assert not any(grad.any() for grad in grads)
    encoder.eval()
    assert torch.equal(encoder(x).tokens, encoder.encoder(x).tokens)


@pytest.mark.parametrize("fused", [False, True])  # a fused one, the default of align train, counts no version
def test_the_teacher_follows_one_time_a_step(fused):
    """Not with each chunk of a batch, and not in evaluation; a resumed run has the same teacher."""
    encoder, x = made(), torch.randn(3, 4, 6, dtype=torch.float64)
    optimizer = torch.optim.AdamW(encoder.encoder.parameters(), lr=0.1, fused=fused)
    expected = encoder.teacher.net.weight.clone()
    for _ in range(3):
        for chunk in x.split(1):
            encoder(chunk).pooled.sum().backward()
        expected = expected + 0.25 * (encoder.encoder.net.weight.detach() - expected)
        torch.testing.assert_close(encoder.teacher.net.weight, expected)
        optimizer.step()
        encoder.eval()(x)
        torch.testing.assert_close(encoder.teacher.net.weight, expected)
        encoder.train()
    resumed = made()
    resumed.load_state_dict(encoder.state_dict())
    for each in (encoder, resumed):
        each(x)
    assert torch.equal(resumed.teacher.net.weight, encoder.teacher.net.weight)
    assert not torch.equal(encoder.teacher.net.weight, expected)
    assert not any(p.requires_grad for p in resumed.teacher.parameters())
    assert not resumed.train().teacher.training
    same = Masked(Cells(), [2, 3]).double()
    before = copy.deepcopy(same.teacher.net.weight)
    same(x)
    assert torch.equal(same.teacher.net.weight, before)  # equal weights stay equal to the bit


def loop(tokens, mask, weight=None):
    L, rows, counts = tokens.shape[1] // 2, [], []
    for i in range(len(tokens)):
        apart = [
            1 - F.cosine_similarity(tokens[i, k], tokens[i, L + k].detach(), dim=0) for k in range(L) if mask[i, k]
        ]
        if apart:
            rows.append(torch.stack(apart).mean())
            counts.append(1.0 if weight is None else float(weight[i]))
    return sum(c * r for c, r in zip(counts, rows, strict=True)) / sum(counts)


def test_the_loss_is_the_loop_s_and_its_parts_sum_to_it():
    torch.manual_seed(0)
    x = torch.randn(7, 8, 5, dtype=torch.float64, requires_grad=True)
    mask = (torch.rand(7, 4) < 0.5).repeat(1, 2)
    mask[2] = False
    weight = torch.rand(7, dtype=torch.float64)
    for w in (None, weight):
        got, want = masked_tokens(x, mask, weight=w), loop(x, mask, w)
        torch.testing.assert_close(got, want)
        (grad,), (expected,) = (torch.autograd.grad(each, x) for each in (got, want))
        torch.testing.assert_close(grad, expected)
        assert not grad[:, 4:].any()
    value, summed = joined(
        in_parts(lambda y, part, merge: masked_tokens(y, mask, weight=weight, part=part, merge=merge), [x], 3)
    )
    torch.testing.assert_close(value, got.detach())
    torch.testing.assert_close(summed[0], grad)
    assert masked_tokens(x, mask & False) == 0
    with pytest.raises(ValueError, match=r"masked tokens come in pairs, .* gives them; got 7"):
        masked_tokens(x[:, :7], mask[:, :7])


def test_a_model_trains_with_both_losses_and_a_start_gives_both_halves(tmp_path):
    def model(masked: bool) -> JointModel:
        torch.manual_seed(int(masked))
        image = Cells()
        encoder = Masked(image, [2, 3]) if masked else image
        return JointModel({"image": Tower(Array((4, 6)), encoder), "text": Tower(Array((4, 6)), Cells())}, 4)

    plain = model(False)
    align.save(plain, tmp_path / "plain")
    made_ = model(True)
    terms = {"clip": Term(InfoNCE(), ["image", "text"]), "masked": Term(MaskedTokens(), ["image"], 0.5)}
    objective = Objective(terms, dim=4, batch=5, modalities=["image", "text"])
    assert "image.encoder" in start_from(made_, objective, str(tmp_path / "plain")).taken
    ours = made_.towers["image"].encoder
    for part in (ours.encoder, ours.teacher):
        assert torch.equal(part.net.weight, plain.towers["image"].encoder.net.weight)
    rows = {m: Rows(torch.randn(5, 4, 6), torch.arange(5)) for m in ("image", "text")}
    batch = Batch(rows, [str(i) for i in range(5)], torch.arange(5))
    total, values = objective(made_.train()(batch, tokens=objective.tokens))
    total.backward()
    assert values["masked"] > 0
    assert all(p.grad is not None for p in made_.parameters() if p.requires_grad)
    _, values = objective.eval()(made_.eval()(batch, tokens=objective.tokens))
    assert values["masked"] == 0
    assert len(objective.infos()) == 1


def test_a_run_needs_the_encoder_that_gives_the_masked_tokens(tmp_path):
    """The tokens of another encoder have no predictions, and the term would train on noise."""
    model = JointModel(
        {"image": Tower(Array((4, 6)), Masked(Cells(), [2, 3])), "text": Tower(Array((4, 6)), Cells())}, 4
    )
    right, wrong = (
        Objective({"k": Term(MaskedTokens(), between)}, dim=4, batch=5, modalities=["image", "text"])
        for between in (["image"], ["image", "text"])
    )
    check_encoders(right, model.towers)
    data: Any = SimpleNamespace(batch=5)
    with pytest.raises(ValueError, match=r"'k' reads the tokens of align.encoders.Masked, and the tower of 'text'"):
        fit(model, wrong, data, tmp_path / "run")


def test_what_does_not_fit_is_one_line():
    for make, line in (
        (lambda: Masked(nn.Tanh(), [2]), "Masked goes around an encoder, which has a width; Tanh has none"),
        (lambda: Masked(Cells(), [2, 3], ratio=1.0), "from 0 to below 1; got 1.0 and 0.99"),
        (lambda: Masked(Cells(), [3, 3])(torch.randn(2, 4, 6)), r"cells of \[3, 3\], and Cells gives 6 tokens"),
    ):
        with pytest.raises(ValueError, match=line):
            make()


def test_pictures_and_sounds_have_a_token_a_cell():
    image = Masked(ImageCNN(8, widths=(8, 16), stem=2), [8, 8])
    assert image(torch.randn(2, 3, 32, 32)).tokens.shape == (2, 128, 8)
    sound = Masked(SpectrogramCNN(8, n_mels=8, widths=(8,), stem=4), [10], ratio=0.3)
    assert sound(torch.randn(2, 1, 8, 40)).mask.sum(1).tolist() == [6, 6]

"""Symile with learned rows in the place of what a sample lacks, against a table filled by hand."""

from __future__ import annotations

import pytest
import torch
from test_infonce import equal, rows
from torch import Tensor

from align.losses import Symile, symile

samples = [torch.tensor([0, 1, 2, -1]), torch.tensor([2, 1, 4]), torch.tensor([0, 4, 4, 3])]
groups = [torch.tensor([7, 1, 2, -1]), torch.tensor([2, 1, 7]), torch.tensor([7, 7, 7, 3])]
weights = [torch.tensor(w, dtype=torch.float64) for w in ([1.0, 2.0, 0.5, 1.0], [0.5, 2.0, 3.0], [1.0, 3.0, 3.0, 1.0])]
# by hand: sample 0 lacks modality 1, sample 1 lacks 2, sample 2 lacks 2, sample 4 lacks 0; 3 has one modality alone
lacking = {0: [4], 1: [0], 2: [1, 2]}
of = {0: (7, 1.0), 1: (1, 2.0), 2: (2, 0.5), 4: (7, 3.0)}


def by_hand(xs: list[Tensor], learned: list[Tensor], extra: bool):
    filled, ids, kinds, counts = [], [], [], []
    for m, x in enumerate(xs):
        filled.append(torch.cat([x, *(learned[m][None] for _ in lacking[m])]))
        ids.append(torch.cat([samples[m], torch.tensor(lacking[m])]))
        kinds.append(torch.cat([groups[m], torch.tensor([of[s][0] for s in lacking[m]])]))
        counts.append(torch.cat([weights[m], torch.tensor([of[s][1] for s in lacking[m]], dtype=torch.float64)]))
    return filled, {"samples": ids} | ({"groups": kinds, "weights": counts} if extra else {})


@pytest.mark.parametrize("negatives", ["all", "partial", 7])
@pytest.mark.parametrize("extra", [False, True])
def test_a_stand_in_is_a_row_of_its_sample(negatives, extra):
    xs, learned = rows(4, 3, 4), rows(1, 1, 1, seed=5)
    learned = [x.detach()[0].requires_grad_() for x in learned]
    scale = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    more = {"groups": groups, "weights": weights} if extra else {}

    def draw() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    got = symile(
        xs,
        scale,
        negatives=negatives,
        samples=samples,
        missing="learned",
        stand_ins=learned,
        generator=draw(),
        **more,
    )
    filled, table = by_hand(xs, learned, extra)
    expected = symile(filled, scale, negatives=negatives, generator=draw(), **table)
    equal(got, expected, [*xs, *learned, scale])


def test_without_it_an_incomplete_sample_is_a_negative_only():
    xs = rows(4, 3, 4)
    loss = symile(xs, 6.0, samples=samples)
    assert loss.item() == 0  # no sample has all three


def test_the_module_learns_them_at_the_length_of_its_rows():
    torch.manual_seed(0)
    loss = Symile("all", missing="learned")
    loss.start(5, 3, 4)
    assert loss.stand_ins.shape == (3, 5)
    xs = [x.detach().float() * 3 for x in rows(4, 3, 4)]
    value = loss(xs, samples)
    value.backward()
    assert loss.stand_ins.grad.abs().amax(1).min() > 0
    longer = [torch.nn.functional.normalize(x, dim=0) * 3 for x in loss.stand_ins.detach()]
    torch.testing.assert_close(
        value, symile(xs, loss.scale, samples=samples, missing="learned", stand_ins=longer), rtol=1e-5, atol=1e-5
    )
    loss.load_state_dict(loss.state_dict())


def test_no_rows_at_all_is_a_differentiable_zero():
    xs, learned = rows(0, 3, 0), [x[0].detach().requires_grad_() for x in rows(1, 1, 1)]
    ids = [torch.zeros(0).long(), torch.arange(3), torch.zeros(0).long()]
    loss = symile(xs, 1.0, samples=ids, missing="learned", stand_ins=learned)
    assert loss.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(loss, [*xs, *learned]))


def test_what_cannot_be_meant():
    xs = rows(2, 2, 2)
    with pytest.raises(ValueError, match=r"stand_ins: a tensor \(D,\) for each of 3 modalities"):
        symile(xs, 1.0, missing="learned")
    with pytest.raises(ValueError, match="missing is 'complete' or 'learned'; got 'none'"):
        symile(xs, 1.0, missing="none")
    with pytest.raises(ValueError, match="missing is 'complete' or 'learned'; got 'none'"):
        Symile(missing="none")

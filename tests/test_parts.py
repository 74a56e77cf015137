"""One process and three or four gloo ranks: the same losses and gradients, whoever has which rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from test_objective import Model, all_terms, batch, case_extras, case_nothing_anywhere, case_plain, objective, outcome

import align.objective.everyone
from align.distributed import rank, world
from align.losses import InfoNCE
from align.objective import Term


def case_detached_gather() -> Any:
    """The usual mistake: rows of other ranks without their gradients."""
    real = align.objective.everyone.gather

    def detached(x: torch.Tensor) -> torch.Tensor:
        pieces = [torch.zeros(0)] * world()
        dist.all_gather_object(pieces, x.detach())
        pieces[rank()] = x
        return torch.cat(pieces)

    align.objective.everyone.gather = detached
    try:
        return outcome()["grads"]
    finally:
        align.objective.everyone.gather = real


def case_mean_of_ranks() -> Any:
    """The other one: each rank its own batch, and the mean over ranks whatever their numbers of anchors."""
    model = Model(objective({"clip": Term(InfoNCE(), ["image", "text"])}))
    inputs, frame = batch(rank(), world())
    real = (align.objective.everyone.gather, align.objective.everyone.world)
    align.objective.everyone.gather, align.objective.everyone.world = (lambda x: x), (lambda: 1)
    try:
        value = model.objective.losses["clip"]
        rows = {m: torch.nn.functional.normalize(x @ model.towers[m], dim=1) for m, x in inputs.items()}
        loss = value([rows["image"], rows["text"]], [frame["image"].sample, frame["text"].sample])
    finally:
        align.objective.everyone.gather, align.objective.everyone.world = real
    total = loss.detach().clone()
    dist.all_reduce(total)
    return total / world()


CASES = [case_extras, case_plain, case_nothing_anywhere]


@pytest.fixture(scope="module", params=[3, 4])
def several(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return on_ranks([*CASES, case_detached_gather, case_mean_of_ranks], folder, world=request.param)


@pytest.mark.parametrize("extras", [True, False])
def test_ranks_are_one_process(several, extras):
    alone = outcome(extras)
    for result in several["case_extras" if extras else "case_plain"]:
        torch.testing.assert_close(result["loss"], alone["loss"], rtol=1e-12, atol=0)
        torch.testing.assert_close(result["values"], alone["values"], rtol=1e-12, atol=1e-15)
        for name, grad in alone["grads"].items():
            assert float((result["grads"][name] - grad).abs().max()) <= 1e-12 * float(grad.abs().max()), name
        assert result["counts"] == dict.fromkeys(all_terms(), 0)


def test_a_modality_that_no_rank_has_hangs_nobody(several):
    for loss, grad, counts in several["case_nothing_anywhere"]:
        assert loss.item() == 0
        assert not grad.any()
        assert counts == {"clip": 1}


def test_the_usual_mistakes_are_seen(several):
    alone = outcome()
    for grads in several["case_detached_gather"]:
        worst = max(float((grads[n] - g).abs().max() / g.abs().max()) for n, g in alone["grads"].items())
        assert worst > 1e-2
    model = Model(objective({"clip": Term(InfoNCE(), ["image", "text"])}))
    expected = model(*batch())[0].detach()
    for value in several["case_mean_of_ranks"]:
        assert abs(float(value - expected)) > 1e-2

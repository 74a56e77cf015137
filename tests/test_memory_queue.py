"""MemoryQueue against a loop that remembers its rows in lists."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from test_infonce import equal, rows
from test_infonce import loop as infonce_loop
from test_siglip import loop as siglip_loop
from test_symile import everything
from test_symile import loop as symile_loop

from align.losses import InfoNCE, MemoryQueue, SigLIP, Symile
from align.objective import Objective, Term
from align.values import Embeddings, Rows


def batches(steps=5, modalities=2, dim=5):
    """Ragged rows with a hard negative now and then, groups across batches."""
    draw = torch.Generator().manual_seed(4)
    for step in range(steps):
        xs, samples, groups = [], [], []
        for m in range(modalities):
            n = 3 + (step + m) % 3
            x = torch.randn(n, dim, dtype=torch.float64, generator=draw)
            xs.append(F.normalize(x, dim=1).requires_grad_())
            sample = torch.randperm(n, generator=draw)
            samples.append(torch.where(sample == n - 1, -1, sample) if step % 2 else sample)
            groups.append(torch.where(samples[-1] >= 0, (samples[-1] + step) % 4 - 1, -1))
        yield xs, samples, groups


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("size", [2, 7, 100])
def test_equals_a_loop_with_a_memory(size, grouped):
    loss = MemoryQueue(InfoNCE(start_scale=7.0), size).double()
    past, kinds = [[], []], [[], []]
    for xs, samples, groups in batches():
        got = loss(xs, samples, groups=groups if grouped else None)
        every = [torch.stack([*x, *past[m]]) for m, x in enumerate(xs)]
        ids = [torch.tensor([*sample, *[-1] * len(past[m])]) for m, sample in enumerate(samples)]
        same = [torch.tensor([*group, *kinds[m]]) for m, group in enumerate(groups)]
        more = {"group_a": same[0], "group_b": same[1]} if grouped else {}
        equal(got, infonce_loop(*every, loss.scale, *ids, **more), xs)
        for m, x in enumerate(xs):
            past[m] = [*past[m], *x.detach()][-size:]
            kinds[m] = [*kinds[m], *groups[m]][-size:]


def test_siglip_counts_a_past_row_for_its_anchor_alone():
    loss = MemoryQueue(SigLIP(), 6).double()
    past = [[], []]
    for xs, samples, _ in batches():
        scale, bias = loss.scale, loss.bias
        rest = 0.0
        for x, other in ((xs[0], past[1]), (xs[1], past[0])):
            for row in x:
                for old in other:
                    rest = rest + torch.log1p(torch.exp(scale * (row * old).sum() + bias)) / 2
        expected = siglip_loop(*xs, scale, bias, *samples) + rest / (sum(len(x) for x in xs) / 2)
        equal(loss(xs, samples), expected, xs)
        past = [[*past[m], *x.detach()][-6:] for m, x in enumerate(xs)]


def test_symile_meets_tuples_of_past_rows():
    loss = MemoryQueue(Symile("all", start_scale=6.0), 4).double()
    past = [[], [], []]
    for xs, samples, _ in batches(3, modalities=3):
        every = [torch.stack([*x, *past[m]]) for m, x in enumerate(xs)]
        ids = [torch.tensor([*sample, *[-1] * len(past[m])]) for m, sample in enumerate(samples)]
        equal(loss(xs, samples), symile_loop(every, loss.scale, everything(every), ids), xs)
        past = [[*past[m], *x.detach()][-4:] for m, x in enumerate(xs)]


@pytest.mark.parametrize("negatives", ["shuffled", "partial", 5])
def test_symile_with_other_negatives_takes_past_rows(negatives):
    loss = MemoryQueue(Symile(negatives, start_scale=6.0), 4).double()
    values = [
        loss(xs, samples, generator=torch.Generator().manual_seed(0)).item()
        for xs, samples, _ in batches(3, modalities=3)
    ]
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_in_eval_mode_it_is_the_loss_and_learns_nothing():
    loss = MemoryQueue(InfoNCE(), 6).double()
    seen = list(batches())
    loss(*seen[0][:2])
    before = copy.deepcopy(loss.state_dict())
    xs, samples, _ = seen[1]
    torch.testing.assert_close(loss.eval()(xs, samples), loss.loss(xs, samples), rtol=0, atol=0)
    torch.testing.assert_close(loss.state_dict(), before, rtol=0, atol=0)


def test_a_killed_and_resumed_run_goes_on_to_the_bit():
    def make():
        loss = MemoryQueue(InfoNCE(), 6).double()
        loss.start(5, 2, 4)
        return loss

    seen = list(batches())
    straight, halved = make(), make()
    values = [straight(xs, samples, groups=groups).item() for xs, samples, groups in seen]
    got = [halved(xs, samples, groups=groups).item() for xs, samples, groups in seen[:3]]
    state = load(save({k: v.contiguous() for k, v in halved.state_dict().items()}))
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "loss.log_scale": (1,),
        "rows/0-1/0": (6, 5),
        "rows/0-1/1": (6, 5),
        "groups/0-1/0": (6,),
        "groups/0-1/1": (6,),
    }
    for resumed in (make(), copy.deepcopy(make()), halved):
        resumed.load_state_dict(state)
        rest = [resumed(xs, samples, groups=groups).item() for xs, samples, groups in seen[3:]]
        assert [*got, *rest] == values
    empty = make()
    halved.load_state_dict(empty.state_dict())  # back to before the first step
    assert halved.state_dict().keys() == empty.state_dict().keys()


def embedded(step):
    draw = torch.Generator().manual_seed(step)
    rows = {
        m: Rows(F.normalize(torch.randn(4, 5, generator=draw, dtype=torch.float64), dim=1), torch.arange(4))
        for m in ("audio", "image", "text")
    }
    return Embeddings(rows, [""] * 4, torch.arange(4))


def test_each_pair_of_a_term_has_its_queue():
    made = Objective({"pairs": Term(MemoryQueue(InfoNCE(), 6), "all")}, dim=5, batch=4, modalities=["audio", "image"])
    wide = Objective(
        {"pairs": Term(MemoryQueue(InfoNCE(), 6), "all")}, dim=5, batch=4, modalities=["audio", "image", "text"]
    )
    for step in range(4):
        _, two = made.double()(embedded(step))
        _, three = wide.double()(embedded(step))
        torch.testing.assert_close(three["pairs/audio-image"], two["pairs"], rtol=1e-14, atol=0)
    assert sorted(k for k in wide.state_dict() if "rows" in k) == [
        "losses.pairs.rows/audio-image/audio",
        "losses.pairs.rows/audio-image/image",
        "losses.pairs.rows/audio-text/audio",
        "losses.pairs.rows/audio-text/text",
        "losses.pairs.rows/image-text/image",
        "losses.pairs.rows/image-text/text",
    ]
    assert len([*wide.parameters()]) == 1
    assert wide.infos()[0].scale == pytest.approx(1 / 0.07)


def test_one_bad_step_does_not_spoil_the_next():
    loss = MemoryQueue(InfoNCE(), 6)
    a, b = rows(3, 3)
    loss([torch.full_like(a, torch.nan), b], [torch.arange(3)] * 2)
    assert loss([a, b], [torch.arange(3)] * 2).isfinite()


def test_rows_are_kept_in_float32_at_least_and_without_gradient():
    loss = MemoryQueue(InfoNCE(), 3)
    a, b = rows(4, 4)
    loss([a.bfloat16(), b.bfloat16()], [torch.arange(4)] * 2)
    held = loss.state_dict()["rows/0-1/0"]
    assert held.dtype == torch.float32
    assert torch.equal(held, a[1:].bfloat16().float())
    again = loss([a, b], [torch.arange(4)] * 2)
    again.backward()
    none = torch.zeros(0, 5)
    assert loss([none, b.float()], [torch.zeros(0).long(), torch.arange(4)]).item() == 0
    assert loss.state_dict()["rows/0-1/0"].shape == (3, 5)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="size is a number of rows, at least 1; got 0"):
        MemoryQueue(InfoNCE(), 0)
    loss = MemoryQueue(InfoNCE(), 3)
    loss(rows(3, 3, dim=4), [torch.arange(3)] * 2)
    with pytest.raises(ValueError, match="the queue holds rows of D = 4; got D = 5"):
        loss(rows(3, 3, dim=5), [torch.arange(3)] * 2)

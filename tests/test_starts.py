"""Every loss starts where it trains: whatever D, M and B are, the loss falls within the first 50 steps."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from few import few
from torch import Tensor, nn

from align.losses import ConFu, GatedSymile, Gram, InfoNCE, OneVsAll, SigLIP, Symile, Triangle


def falls(loss, dim: int, modalities: int, batch: int, lr: float = 0.01) -> tuple[float, float, float]:
    """The first loss, the best of the last steps of 50, and the largest gradient at the start, of separable data: each
    modality a linear view of one cause of 16 numbers, met by a linear tower."""
    torch.manual_seed(0)
    views = [torch.randn(16, 32) for _ in range(modalities)]
    towers = nn.ModuleList(nn.Linear(32, dim) for _ in range(modalities))
    loss.start(dim, modalities, batch)
    optimizer = torch.optim.Adam([*towers.parameters(), *loss.parameters()], lr=lr)
    ids = [torch.arange(batch)] * modalities
    values: list[float] = []
    steep = 0.0
    for step in range(50):
        cause = torch.randn(batch, 16)
        embeddings: list[Tensor] = [F.normalize(t(cause @ v), dim=1) for t, v in zip(towers, views, strict=True)]
        value = loss(embeddings, ids, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        value.backward()
        if not step:
            steep = max(float(p.grad.abs().max()) for p in towers.parameters() if p.grad is not None)
        optimizer.step()
        loss.clamp_()
        values.append(float(value.detach()))
    return values[0], min(values[-5:]), steep


dims = [16, 64, 512, 2048]


@pytest.mark.parametrize("dim", dims)
@pytest.mark.parametrize("batch", [8, 64])
@pytest.mark.parametrize("loss", [InfoNCE, SigLIP])
def test_pairs(loss, dim, batch):
    first, last, steep = falls(loss(), dim, 2, batch)
    assert last < 0.8 * first
    assert steep > 1e-4


@pytest.mark.parametrize(
    ("negatives", "modalities", "dim"), few(itertools.product(["partial", "shuffled", 64], [2, 3, 4, 5], dims), 4)
)
def test_symile(negatives, modalities, dim):
    first, last, steep = falls(Symile(negatives), dim, modalities, 32)
    assert last < 0.9 * first
    assert steep > 1e-4


@pytest.mark.parametrize("modalities", [2, 3])
def test_symile_of_all_tuples(modalities):
    first, last, _ = falls(Symile("all"), 64, modalities, 32)
    assert last < 0.9 * first


@pytest.mark.parametrize("dim", few([16, 512], 1))
@pytest.mark.parametrize("loss", [Gram, Triangle, OneVsAll, ConFu, GatedSymile])
def test_volumes(loss, dim):
    first, last, _ = falls(loss(), dim, 3, 32)
    assert last < 0.9 * first


def test_clip_s_scale_would_leave_symile_flat():
    """Why the start depends on D and M: with CLIP's 14.3 nothing falls."""
    first, last, _ = falls(Symile("partial", start_scale=14.3, learn_scale=False), 2048, 4, 32)
    assert last > 0.9 * first

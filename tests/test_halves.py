"""Losses of halves: multiplied as halves, summed in float32, against loops in float64 over the same rounded rows.

A CPU has no product of halves with float32 results. ``gpu`` puts one in its place, so that the code for a GPU runs
here.
"""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from half_gpu import multiply_halves
from parts import in_parts, joined
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from align.losses import (
    HardNegatives,
    InfoNCE,
    Matryoshka,
    MemoryQueue,
    distill,
    hinge,
    infonce,
    late_interaction,
    siglip,
    symile,
    transport,
)
from align.losses.kernels import precision, products
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import exact
from align.losses.kernels.slabs import half_of
from align.losses.kernels.softplus import softplus_sum
from align.losses.temperature import ClipTemperature
from align.objective import Objective, Term
from align.values import Embeddings, Rows

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def gpu(monkeypatch):
    return multiply_halves(monkeypatch)


def rows(*lengths: int, kind: torch.dtype, dim: int = 24, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, dim, generator=draw), dim=1).to(kind).requires_grad_() for n in lengths]


def checked(loss, xs: list[Tensor], scale: float, *, digits: float) -> None:
    """The value to 1e-5 of float64's, gradients to ``digits`` of their largest entry, all in the dtypes of the inputs.

    digits: 2^-8 rounds a gradient to bfloat16. A GPU's products of rounded slopes cost as much again.
    """
    number = torch.tensor(scale, requires_grad=True)
    value = loss(xs, number)
    grads = torch.autograd.grad(value, [*xs, number])
    wide = [x.detach().double().requires_grad_() for x in xs]
    number64 = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    expected = loss(wide, number64)
    wanted = torch.autograd.grad(expected, [*wide, number64])
    assert value.dtype == torch.float32
    assert abs(float(value.detach()) - float(expected.detach())) <= 1e-5 * max(1.0, abs(float(expected.detach())))
    for x, found, right in zip([*xs, number], grads, wanted, strict=True):
        assert found.dtype == x.dtype
        assert float((found.double() - right).abs().max()) <= digits * float(right.abs().max()) + 1e-9


LOSSES = {
    "infonce": (lambda xs, s: infonce(xs[0], xs[1], s, tile=4), (10, 7)),
    "infonce, small": (lambda xs, s: infonce(xs[0], xs[1], s), (10, 7)),
    "siglip": (lambda xs, s: siglip(xs[0], xs[1], s, -3.0, tile=4), (10, 7)),
    "siglip, weights": (
        lambda xs, s: siglip(xs[0], xs[1], s, -3.0, tile=4, weight_a=torch.arange(10.0) + 1, weight_b=torch.ones(7)),
        (10, 7),
    ),
    "symile all": (lambda xs, s: symile(xs, s, negatives="all", tile=4), (5, 6, 7)),
    "symile partial": (lambda xs, s: symile(xs, s, negatives="partial", tile=4), (5, 6, 7)),
    "symile drawn": (
        lambda xs, s: symile(xs, s, negatives=9, tile=4, generator=torch.Generator().manual_seed(3)),
        (5, 6, 7),
    ),
    "hinge": (lambda xs, s: hinge(xs[0], xs[1]) * s / s.detach(), (10, 7)),
    "distill": (lambda xs, s: distill(*xs, s, 20.0), (6, 6, 6, 6)),
    "late interaction": (
        lambda xs, s: late_interaction(xs[0].view(4, 3, -1), xs[1].view(5, 2, -1), s, chunk=3),
        (12, 10),
    ),
    "transport": (lambda xs, s: transport(xs[0].view(4, 3, -1), xs[1].view(5, 2, -1), s, chunk=3), (12, 10)),
}


@pytest.mark.parametrize("kind", HALVES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_on_a_cpu_a_loss_is_that_of_the_rounded_rows(name, kind):
    loss, lengths = LOSSES[name]
    checked(loss, rows(*lengths, kind=kind), 20.0, digits=2**-7 if name == "symile partial" else 2**-8)


@pytest.mark.parametrize("kind", HALVES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_on_a_gpu_it_is_too_and_its_products_are_those_of_halves(gpu, name, kind):
    loss, lengths = LOSSES[name]
    checked(loss, rows(*lengths, kind=kind), 20.0, digits=2**-6)
    halves = name != "infonce, small" and not (kind == torch.float16 and name.startswith("symile"))
    assert bool(gpu) == halves


def test_every_product_of_a_gpus_tiles_is_one_of_halves(gpu, monkeypatch):
    """Four for InfoNCE, three for SigLIP, each of the size of its tile: the trap is a forgotten float32 product."""
    monkeypatch.setattr("align.losses.kernels.slabs.size_of", lambda *_: (4, 3))
    monkeypatch.setattr(importlib.import_module("align.losses.siglip"), "tile_of", lambda *_: (4, 3))
    a, b = rows(112, 6, kind=torch.bfloat16, dim=8)
    monkeypatch.setattr("align.losses.kernels.dense.ENTRIES", 0)
    infonce(a, b, torch.tensor(5.0)).backward()
    sides = [(4, 8, 3), (4, 8, 3), (4, 3, 8), (3, 4, 8)]
    assert sorted(gpu) == sorted(sides * (28 * 2))
    gpu.clear()
    siglip(a, b, 5.0, -1.0).backward()
    assert sorted(gpu) == sorted(sides[1:] * (28 * 2))


def test_slabs_in_two_directions_sum_to_the_same(gpu, monkeypatch):
    """Columns are cut too on a GPU: every slab, group, part and direction is met one time."""
    size = (5, 3)
    monkeypatch.setattr("align.losses.kernels.slabs.size_of", lambda *_: size)
    monkeypatch.setattr(importlib.import_module("align.losses.siglip"), "tile_of", lambda *_: size)
    monkeypatch.setattr("align.losses.kernels.dense.ENTRIES", 0)
    groups = {"group_a": torch.arange(11) // 3, "group_b": torch.arange(8) // 3}
    for kind, digits in ((torch.float32, 2e-6), (torch.bfloat16, 2**-6)):
        xs = rows(11, 8, kind=kind)
        for scale in (5.0, 90.0):  # without and with shifts
            checked(lambda xs, s: infonce(xs[0], xs[1], s, **groups), xs, scale, digits=digits)
            checked(lambda xs, s: siglip(xs[0], xs[1], s, -3.0, **groups), xs, scale, digits=digits)
            checked(lambda xs, s: infonce(xs[1], xs[0], s), xs, scale, digits=digits)
        three = rows(5, 6, 7, kind=kind)
        checked(lambda xs, s: symile(xs, s, groups=[torch.arange(len(x)) // 2 for x in xs]), three, 30.0, digits=digits)


def test_a_gradient_keeps_its_digits_where_the_model_is_right(gpu):
    """p - 1 of a positive is small where p is 0.99: p rounded to bfloat16 would be off by a third of it."""
    a = rows(12, kind=torch.bfloat16, dim=64)[0]
    b = a.detach().clone().requires_grad_()
    checked(lambda xs, s: infonce(xs[0], xs[1], s, tile=5), [a, b], 9.0, digits=2**-6)
    value = infonce(a, b, torch.tensor(9.0), tile=5)
    assert 0 < float(value.detach()) < 0.1


def test_a_product_is_widened_a_block_at_a_time(monkeypatch):
    monkeypatch.setattr(products, "BLOCK", 3)
    seen = []
    plain = Tensor.addmm_
    monkeypatch.setattr(
        Tensor, "addmm_", lambda t, a, b, **k: (seen.append((a.numel(), b.numel())), plain(t, a, b, **k))[1]
    )
    a, b = rows(8, 7, kind=torch.bfloat16, dim=5)
    found = products.matmul_float32(a.detach(), b.detach().T)
    torch.testing.assert_close(found, a.detach().float() @ b.detach().float().T)
    assert max(max(pair) for pair in seen) <= 9
    total = torch.ones(8, 7)
    products.add_matmul_(total, a.detach(), b.detach().T)
    torch.testing.assert_close(total, 1 + found)
    assert torch.equal(products.matmul_float32(a.detach()[:, :0], b.detach()[:, :0].T), torch.zeros(8, 7))


def test_parts_of_halves_sum_to_the_whole():
    x = torch.randn(50, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    y = x.bfloat16().float() * x.flip(0).bfloat16().float()
    assert torch.equal(sum(part.double() for part in products.split_halves(y, torch.bfloat16, 2)), y.double())
    assert torch.equal(sum(part.double() for part in products.split_halves(x, torch.bfloat16, 3)), x.double())


def test_a_product_differentiates_twice_and_in_the_dtypes_of_its_inputs():
    a, b = (x.detach().double().requires_grad_() for x in rows(3, 4, kind=torch.float32, dim=2))
    assert torch.autograd.gradcheck(multiply, (a, b))
    assert torch.autograd.gradgradcheck(multiply, (a, b))
    low = rows(3, 4, kind=torch.float16)
    assert [g.dtype for g in torch.autograd.grad(multiply(*low).sum(), low)] == [torch.float16] * 2


def test_softplus_of_a_tile_is_the_sum_of_its_entries():
    draw = torch.Generator().manual_seed(0)
    for shape, spread, shift in (
        ((1, 1), 1, 0),
        ((3, 43), 5, 0),
        ((16, 100), 0.1, -16),
        ((5, 7), 300, 0),
        ((2, 64), 0, 9),
    ):
        z = torch.randn(shape, generator=draw) * spread + shift
        expected = math.fsum(math.log1p(math.exp(-abs(x))) + max(x, 0.0) for x in z.flatten().tolist())
        found = float(softplus_sum(z.flatten(), torch.empty(z.numel()), torch.float64))
        assert abs(found - expected) <= 1e-6 * expected
    z = torch.tensor([[-math.inf, 2.0, -math.inf]])
    assert abs(float(softplus_sum(z.flatten(), torch.empty(z.numel()), torch.float64)) - math.log1p(math.exp(2))) < 1e-6


def test_tf32_is_off_inside_and_as_it_was_outside(monkeypatch):
    inside = []
    plain = torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda *a, **k: (inside.append(torch.backends.cuda.matmul.fp32_precision), plain(*a, **k))[1]
    )
    added = Tensor.addmm_
    monkeypatch.setattr(
        Tensor,
        "addmm_",
        lambda *a, **k: (inside.append(torch.backends.cuda.matmul.fp32_precision), added(*a, **k))[1],
    )
    a, b = rows(6, 6, kind=torch.float32)
    losses = [
        lambda: infonce(a, b, 5.0, tile=4),
        lambda: siglip(a, b, 5.0, 0.0),
        lambda: hinge(a, b),
        lambda: symile([a, b, a], 9.0),
    ]
    before = torch.get_float32_matmul_precision()
    try:
        for name in ("high", "medium"):
            torch.set_float32_matmul_precision(name)
            for loss in losses:
                inside.clear()
                loss().backward()
                assert len(inside) >= 2
                assert set(inside) == {"ieee"}, "forward and backward"
                assert torch.get_float32_matmul_precision() == name
        assert torch.backends.cuda.matmul.allow_tf32
        with exact(a), exact(a):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            with pytest.raises(KeyError), exact(a):
                raise KeyError
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)
    assert not precision.is_reduced()
    infonce(a, b, 5.0).backward()
    assert torch.get_float32_matmul_precision() == before


class Reads(TorchDispatchMode):
    """Counts the times that a number of a tensor is read on the host, as a GPU would have to be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
            torch.ops.aten.is_nonzero.default,
        ) or (func is torch.ops.aten._to_copy.default and (kwargs or {}).get("non_blocking") is True)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "infonce",
        "siglip",
        "siglip, weights",
        "symile all",
        "symile partial",
        "symile drawn",
        "late interaction",
        "transport",
    ],
)
def test_reads_on_the_host_do_not_grow_with_the_tiles(gpu, name, kind):
    counts = []
    of = {
        "late interaction": lambda xs, tile: late_interaction(
            xs[0].view(4, 3, -1), xs[1].view(5, 2, -1), 5.0, chunk=tile
        ),
        "transport": lambda xs, tile: transport(xs[0].view(4, 3, -1), xs[1].view(5, 2, -1), 5.0, chunk=tile),
        "infonce": lambda xs, tile: infonce(
            xs[0], xs[1], 5.0, tile=tile, group_a=torch.arange(12) // 2, group_b=torch.arange(10) // 2
        ),
        "siglip": lambda xs, tile: siglip(xs[0], xs[1], 5.0, 0.0, tile=tile),
        "siglip, weights": lambda xs, tile: siglip(
            xs[0],
            xs[1],
            5.0,
            0.0,
            tile=tile,
            weight_a=torch.ones(12),
            group_a=torch.arange(12) // 2,
            group_b=torch.arange(10) // 2,
        ),
        "symile all": lambda xs, tile: symile([*xs, xs[0]], 5.0, negatives="all", tile=tile),
        "symile partial": lambda xs, tile: symile([*xs, xs[0]], 5.0, negatives="partial", tile=tile),
        "symile drawn": lambda xs, tile: symile([*xs, xs[0]], 5.0, negatives=7, tile=tile),
    }[name]
    for tile in (2, 100):
        xs = rows(12, 10, kind=kind)
        with Reads() as reads:
            of(xs, tile).backward()
        counts.append(reads.count)
    # The edges of the tiles are one list of numbers, of which each is one call here and none on the host later.
    assert counts[0] == counts[1]


@pytest.mark.sweep
def test_the_benchmark_for_a_gpu_runs_without_one():
    script = Path(__file__).parent / "benchmarks" / "gpu.py"
    options = ["--device", "cpu", "--batches", "256", "--steps", "1", "--models", "tiny"]
    run = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=True)
    for word in ("no GPU", "infonce | 256", "siglip | 256", "cached, Sentence Transformers", "tiny:", "MFU"):
        assert word in run.stdout
    if not torch.cuda.is_available():
        refused = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert refused.returncode == 1
        assert refused.stderr.startswith("no GPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_on_a_real_gpu(kind):
    xs = [x.detach().cuda().requires_grad_() for x in rows(3000, 2500, kind=kind, dim=64)]
    for loss in (lambda xs, s: infonce(xs[0], xs[1], s), lambda xs, s: siglip(xs[0], xs[1], s, -5.0)):
        scale = torch.tensor(20.0, device="cuda", requires_grad=True)
        value = loss(xs, scale)
        grads = torch.autograd.grad(value, xs)
        wide = [x.detach().double().requires_grad_() for x in xs]
        expected = loss(wide, scale.detach().double())
        wanted = torch.autograd.grad(expected, wide)
        assert abs(float(value) - float(expected)) <= 1e-5 * float(expected)
        for found, right in zip(grads, wanted, strict=True):
            assert found.dtype == kind
            assert float((found.double() - right).abs().max()) <= 2**-6 * float(right.abs().max())


def test_parts_of_two_ranks_join_on_a_gpu(gpu):
    a, b = rows(11, 8, kind=torch.bfloat16)
    for loss in (
        lambda a, b, **k: infonce(a, b, 20.0, tile=3, **k),
        lambda a, b, **k: siglip(a, b, 20.0, -3.0, tile=3, **k),
    ):
        whole = loss(a, b)
        wanted = torch.autograd.grad(whole, [a, b])
        value, grads = joined(in_parts(loss, [a, b], 2))
        torch.testing.assert_close(value, whole.detach(), rtol=1e-5, atol=0)
        for found, right in zip(grads, wanted, strict=True):
            assert float((found - right).abs().max()) <= 2**-6 * float(right.abs().max())


def test_wrappers_hand_halves_on(gpu):
    a, b = rows(6, 6, kind=torch.bfloat16, dim=16)
    ids = [torch.arange(6)] * 2
    seen = []

    class Seeing(ClipTemperature):
        kind, takes_unpaired = "pairwise", True

        def forward(self, embeddings, samples, *, groups=None, weights=None, generator=None):
            seen.extend(x.dtype for x in embeddings)
            return infonce(*embeddings, self.scale, sample_a=samples[0], sample_b=samples[1])

    queue = MemoryQueue(Seeing(None, None, True), 4)
    matryoshka = Matryoshka(Seeing(None, None, True), [8, 16])
    matryoshka.start(16, 2, 6)
    for loss in (queue, queue, matryoshka):
        loss([a, b], ids).backward()
    assert set(seen) == {torch.bfloat16}
    assert len(seen) == 8
    hard = HardNegatives(InfoNCE(), weight=2.0)  # log(2) / scale needs float32's digits
    assert hard([a, b], [torch.tensor([0, 1, 2, 3, 4, -1])] * 2).dtype == torch.float32


def test_under_autocast_the_objective_hands_halves_on_where_the_device_multiplies_them(monkeypatch):
    a, b = rows(5, 5, kind=torch.float32)
    ids = torch.arange(5)
    embeddings = Embeddings({"image": Rows(a, ids), "text": Rows(b, ids)}, [*"abcde"], ids)
    seen = []
    objective = Objective({"pair": Term(InfoNCE(), between=["image", "text"])}, dim=24, batch=5)
    objective.losses["pair"].register_forward_pre_hook(lambda m, args: seen.extend(x.dtype for x in args[0]))
    for on_gpu, auto, wanted in (
        (False, True, torch.float32),
        (True, False, torch.float32),
        (True, True, torch.bfloat16),
    ):
        module = importlib.import_module("align.objective.everyone")
        monkeypatch.setattr(module, "has_half_products", lambda device, on=on_gpu: on)
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=auto):
            total, _ = objective(embeddings)
        assert seen == [wanted] * 2
        assert total.dtype == torch.float32
        total.backward()
        assert a.grad is not None
        assert a.grad.dtype == torch.float32


def test_which_products_are_of_halves(gpu):
    bf16, fp16 = (torch.zeros(2, 3, dtype=kind) for kind in HALVES)
    wide = torch.zeros(2, 3)
    assert (
        half_of([bf16, bf16], [1, 1]) == half_of([wide, bf16], [2, 1]) == half_of([bf16] * 3, [1] * 3) == torch.bfloat16
    )
    assert half_of([fp16, fp16], [1, 1]) == torch.float16
    assert half_of([fp16] * 3, [1] * 3) is half_of([wide, wide], [1, 1]) is None


def test_small_slopes_do_not_vanish_in_float16():
    """A slope of a batch of 65,536 is below float16's smallest number."""
    slope = products.round_slope(torch.tensor([[1e-8, -4e-8]]), torch.float16)
    torch.testing.assert_close(slope.times(torch.tensor([[1.0], [2.0]])), torch.tensor([[-7e-8]]), rtol=1e-3, atol=0)
    assert torch.equal(products.round_slope(torch.zeros(1, 2), torch.float16).values, torch.zeros(1, 2).half())

"""Losses in tiles and in parts: exact against plain formulas at every tile size, scale and number of modalities."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from parts import in_parts, joined
from test_infonce import ragged
from test_infonce import rows as unit_rows
from test_symile import three, three_rows
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from align.losses import infonce, siglip, symile
from align.losses.kernels.slabs import plan_of
from align.losses.kernels.tiles import _LogSums, log_sums

tiles = [1, 2, 3, 7, None]


def plain(xs: list[Tensor], scale: Tensor) -> tuple[list[Tensor], Tensor]:
    """log Σ exp of every anchor by the whole cube, which einsum makes."""
    letters = "ijkl"[: len(xs)]
    cube = scale * torch.einsum(",".join(f"{x}d" for x in letters) + "->" + letters, *xs)
    every = range(len(xs))
    return [cube.logsumexp([o for o in every if o != m]) if len(xs) > 1 else cube for m in every], cube


def close(got: Tensor, expected: Tensor, got_grads, grads) -> None:
    """The issue's bounds: the loss relative to max(1, |loss|), a gradient relative to its largest entry."""
    got, expected = got.detach(), expected.detach()
    assert abs(float(got - expected)) <= 1e-12 * max(1.0, abs(float(expected)))
    for mine, theirs in zip(got_grads, grads, strict=True):
        assert float((mine - theirs).abs().max()) <= 1e-10 * max(float(theirs.abs().max()), 1e-300)


@pytest.mark.parametrize("lengths", [(6, 5), (5, 6), (4, 3, 5), (3, 5, 4), (3, 2, 4, 2), (2, 4, 3, 3)])
@pytest.mark.parametrize("scale", [1.0, 14.0, 100.0, 1000.0])
@pytest.mark.parametrize("tile", tiles)
def test_log_sums_equal_the_whole_cube(lengths, scale, tile):
    xs = unit_rows(*lengths, dim=3)
    with torch.no_grad():
        xs[0][1], xs[1][1] = xs[0][0], xs[1][0]  # rows that occur twice
    number = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    tuples = torch.tensor([[0] * len(xs), [1] * len(xs), [0] * len(xs)])
    sums, own = log_sums(xs, number, tuples, tile=tile)
    expected, cube = plain(xs, number)
    factors = [torch.linspace(-1, 2, len(x), dtype=torch.float64) for x in xs]
    got = sum((f * s).sum() for f, s in zip(factors, sums, strict=True)) + own.sum()
    wanted = sum((f * s).sum() for f, s in zip(factors, expected, strict=True))
    wanted = wanted + 2 * cube[(0,) * len(xs)] + cube[(1,) * len(xs)]
    inputs = [*xs, number]
    close(got, wanted, torch.autograd.grad(got, inputs), torch.autograd.grad(wanted, inputs))


def losses():
    """name -> (loss of its inputs, inputs)."""
    number = torch.tensor([6.0], dtype=torch.float64)
    a, b = unit_rows(6, 8)
    xs = three_rows()
    draw = {"generator": lambda: torch.Generator().manual_seed(3)}
    out = {}
    for positives, smoothing in itertools.product(["mean", "inside", "sum"], [0.0, 0.1]):
        more = ragged | {"positives": positives, "label_smoothing": smoothing, "focal": 2 * smoothing}
        out[f"infonce {positives} {smoothing}"] = (
            lambda x, y, s, more=more, **k: infonce(x, y, s, **more, **k),
            [a, b, number],
            {},
        )
    out["siglip"] = (lambda x, y, s, t, **k: siglip(x, y, s, t, **ragged, **k), [a, b, number, -number], {})
    for negatives in ("all", "partial", "shuffled", 9):
        out[f"symile {negatives}"] = (
            lambda x, y, z, s, negatives=negatives, **k: symile([x, y, z], s, negatives=negatives, **three, **k),
            [*xs, number],
            draw,
        )
    return out


@pytest.mark.parametrize("name", losses())
@pytest.mark.parametrize("tile", tiles[:-1])
def test_the_tile_changes_nothing(name, tile):
    loss, inputs, options = losses()[name]
    inputs = [x.detach().requires_grad_() for x in inputs]
    expected = loss(*inputs, **{k: v() for k, v in options.items()})
    got = loss(*inputs, tile=tile, **{k: v() for k, v in options.items()})
    close(got, expected, torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs))


@pytest.mark.parametrize("name", losses())
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_parts_add_up_to_the_whole(name, parts):
    loss, inputs, options = losses()[name]
    inputs = [x.detach().requires_grad_() for x in inputs]
    expected = loss(*inputs, **{k: v() for k, v in options.items()})
    value, grads = joined(in_parts(loss, inputs, parts, **options))
    close(value, expected.detach(), grads, torch.autograd.grad(expected, inputs))


def test_a_part_of_several_must_be_merged():
    a, b = unit_rows(4, 4)
    for loss in (lambda **k: infonce(a, b, 1.0, **k), lambda **k: siglip(a, b, 1.0, 0.0, **k)):
        with pytest.raises(ValueError, match=r"part=\(0, 2\) is one share of several: merge= must join"):
            loss(part=(0, 2))
        with pytest.raises(ValueError, match=r"part is \(i, n\) with 0 <= i < n; got \(2, 2\)"):
            loss(part=(2, 2), merge=lambda x, how: x)
        with pytest.raises(ValueError, match="tile is at least one row; got 0"):
            loss(tile=0)
    with pytest.raises(ValueError, match="merge= must join"):
        symile([a, b], 1.0, part=(1, 2))


@pytest.mark.parametrize("scale", [14.0, 100.0, 1000.0])
@pytest.mark.parametrize("kind", ["infonce", "siglip", "symile"])
def test_float32_gradients_are_as_good_as_the_naive_form_s(kind, scale):
    """The error against float64, over the same inputs; a tenth more is allowed."""
    draw = torch.Generator().manual_seed(1)
    xs = [F.normalize(torch.randn(96 if kind != "symile" else 24, 64, generator=draw), dim=1) for _ in range(3)]
    xs = [F.normalize(x + 0.5 * xs[0], dim=1) for x in xs][: 3 if kind == "symile" else 2]

    def naive(xs, s):
        n = torch.arange(len(xs[0]))
        if kind == "siglip":
            z = s * xs[0] @ xs[1].T - 10
            return -F.logsigmoid(torch.where(torch.eye(len(n), dtype=torch.bool), z, -z)).sum() / len(n)
        sums, cube = plain(xs, s)
        own = cube[(n,) * len(xs)]
        return sum((every - own).mean() for every in sums) / len(xs)

    def ours(xs, s):
        if kind == "siglip":
            return siglip(*xs, s, -10.0)
        return infonce(*xs, s) if kind == "infonce" else symile(xs, s)

    def gradients(loss, dtype):
        inputs = [x.to(dtype).requires_grad_() for x in xs]
        number = torch.tensor(scale, dtype=dtype, requires_grad=True)
        return [g.double() for g in torch.autograd.grad(loss(inputs, number), [*inputs, number])]

    exact = gradients(naive, torch.float64)
    for x, mine, theirs in zip(
        exact[:-1], gradients(ours, torch.float32)[:-1], gradients(naive, torch.float32)[:-1], strict=True
    ):
        floor = 4 * torch.finfo(torch.float32).eps * float(x.abs().max())
        assert float((mine - x).norm()) <= 1.1 * float((theirs - x).norm()) + floor


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: infonce(a, b, 9.0, tile=4),
        lambda a, b: siglip(a, b, 9.0, -5.0),
        lambda a, b: symile([a, b, a], 9.0, negatives=4),
    ],
)
def test_a_second_derivative_is_refused(loss):
    a, b = unit_rows(4, 4)
    with pytest.raises(RuntimeError, match=r"cannot differentiate twice: .* without create_graph=True"):
        torch.autograd.grad(loss(a, b), a, create_graph=True)


@pytest.mark.sweep  # the compiler's own imports
@pytest.mark.filterwarnings("ignore")
def test_compile_goes_through():
    a, b = (x.detach().float() for x in unit_rows(6, 6))
    c = unit_rows(6, seed=4)[0].detach().float()

    def step(a, b, c):
        a, b, c = a * 1.0, b * 1.0, c * 1.0
        draw = torch.Generator().manual_seed(0)
        tiled = infonce(a, b, 9.0, tile=4) + siglip(a, b, 9.0, -5.0)
        return infonce(a, b, 9.0) + tiled + symile([a, b, c], 20.0, negatives="all", generator=draw)

    inputs = [x.clone().requires_grad_() for x in (a, b, c)]
    expected = step(*inputs)
    got = torch.compile(step, backend="aot_eager")(*inputs)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_autocast_changes_nothing():
    xs = [x.detach().float().requires_grad_() for x in three_rows()]
    losses = [
        lambda: infonce(xs[0], xs[1], 100.0),
        lambda: infonce(xs[0], xs[1], 100.0, tile=2),
        lambda: siglip(xs[0], xs[1], 100.0, -10.0),
        *(lambda n=n: symile(xs, 40.0, negatives=n, generator=torch.Generator().manual_seed(0)) for n in ("all", 9)),
    ]
    for loss in losses:
        expected = loss()
        expected_grads = torch.autograd.grad(expected, xs[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = loss()
            grads = torch.autograd.grad(got, xs[0])
        assert torch.equal(got, expected)
        assert torch.equal(grads[0], expected_grads[0])


def test_five_modalities_are_exact_and_too_many_tuples_refused():
    xs = unit_rows(2, 3, 2, 2, 3, dim=3)
    sums, _ = log_sums(xs, torch.tensor(5.0, dtype=torch.float64), torch.zeros(0, 5, dtype=torch.long))
    cube = 5 * torch.einsum("id,jd,kd,ld,md->ijklm", *xs)
    for m, got in enumerate(sums):
        torch.testing.assert_close(got, cube.logsumexp([o for o in range(5) if o != m]))
    many = [torch.zeros(200, 2) for _ in range(5)]
    with pytest.raises(ValueError, match=r"all tuples of 5 modalities .* take negatives='partial', 'shuffled'"):
        symile(many, 1.0, negatives="all")


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return out


def test_nothing_of_the_order_of_the_matrix_is_made():
    """Forward and backward of 4096 rows a side, whose matrix would be 16 million logits, and of a cube of 2 million."""
    draw = torch.Generator().manual_seed(0)
    a, b = (F.normalize(torch.randn(4096, 32, generator=draw), dim=1).requires_grad_() for _ in range(2))
    few = [a[:128], b[:128], (a * b)[:128]]
    for loss in (
        lambda: infonce(a, b, 14.0),
        lambda: infonce(a, b, 100.0),  # one shift a row
        lambda: siglip(a, b, 100.0, -10.0),
        lambda: symile([a, b, a], 50.0, negatives="partial"),
        lambda: symile([a, b, a], 50.0, negatives="shuffled"),
        lambda: symile(few, 50.0, negatives="all"),
    ):
        with Largest() as largest:
            loss().backward(retain_graph=True)
        assert largest.elements <= 2**20
    with Largest() as largest:
        F.cross_entropy(a @ b.T, torch.arange(4096)).backward()
    assert largest.elements == 4096**2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_data_is_read_inside_the_tiles():
    xs = [x.detach().float().cuda().requires_grad_() for x in three_rows()]
    number = torch.tensor(20.0, device="cuda", requires_grad=True)
    plan = plan_of(xs, number, None, None, (0, 1), None, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        *sums, _ = _LogSums.apply(plan, torch.zeros(0, 3, dtype=torch.long, device="cuda"), number, *xs)
        sum(s.sum() for s in sums).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_scale_at_its_extremes_is_finite():
    a, b = (x.detach().float() for x in unit_rows(8, 8))
    for scale in (1e-30, 1e-3, 1e3, 1e6):
        value = infonce(a.requires_grad_(), b, scale)
        assert math.isfinite(float(value.detach()))
        assert torch.autograd.grad(value, a)[0].isfinite().all()

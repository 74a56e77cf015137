"""late_interaction against a loop over rows, tokens and anchors; and that its tiles stay small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from token_rows import Largest, contrast_loop, ragged, token_rows

from align.losses import LateInteraction, infonce, late_interaction


def loop(a, b, scale, mask_a, mask_b, **more):
    def best(x, m_x, y, m_y):
        """The mean over x's real tokens of the best of y's."""
        real = [k for k in range(len(x)) if m_x[k]]
        others = [k for k in range(len(y)) if m_y[k]]
        if not real or not others:
            return None
        return scale * sum(torch.stack([(x[k] * y[m]).sum() for m in others]).max() for k in real) / len(real)

    there = [[best(a[i], mask_a[i], b[j], mask_b[j]) for j in range(len(b))] for i in range(len(a))]
    back = [[best(b[j], mask_b[j], a[i], mask_a[i]) for i in range(len(a))] for j in range(len(b))]
    alive = [[bool(row.any()) for row in mask] for mask in (mask_a, mask_b)]
    return contrast_loop(there, back, more.pop("sample_a"), more.pop("sample_b"), *alive, **more)


def equal(got, expected, inputs):
    assert got.shape == ()
    torch.testing.assert_close(got, expected.reshape(()), rtol=0, atol=1e-12)
    grads = zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True)
    for mine, theirs in grads:
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1, 5, 12])
@pytest.mark.parametrize("extra", [(), ("group_a", "group_b"), ("weight_a", "weight_b")])
def test_equals_the_loop(chunk, extra):
    (a, mask_a), (b, mask_b) = token_rows(7, 4, dead=6), token_rows(8, 3, seed=1, dead=1)
    scale = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    more = {name: ragged[name] for name in ("sample_a", "sample_b", *extra)}
    got = late_interaction(a, b, scale, mask_a=mask_a, mask_b=mask_b, chunk=chunk, **more)
    equal(got, loop(a, b, scale, mask_a, mask_b, **more), [a, b, scale])
    assert (
        torch.autograd.grad(late_interaction(a, b, scale, mask_a=mask_a, chunk=chunk, **more), a)[0][6].abs().max() == 0
    )


@pytest.mark.parametrize("positives", ["inside", "sum"])
def test_several_positives_inside_the_log(positives):
    (a, mask_a), (b, mask_b) = token_rows(7, 4), token_rows(8, 3, seed=1, dead=1)
    more = {**ragged, "positives": positives}
    got = late_interaction(a, b, 9.0, mask_a=mask_a, mask_b=mask_b, **more)
    equal(got, loop(a, b, 9.0, mask_a, mask_b, **more), [a, b])


def test_gradcheck():
    (a, mask_a), (b, mask_b) = token_rows(7, 2, dim=3), token_rows(8, 3, dim=3, seed=1)
    scale = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, y, s: late_interaction(x, y, s, mask_a=mask_a, mask_b=mask_b, chunk=6, **ragged), (a, b, scale)
    )


def test_rows_of_one_token_are_infonce():
    (a, _), (b, _) = token_rows(7, 1), token_rows(8, 1, seed=1)
    torch.testing.assert_close(
        late_interaction(a, b, 14.0, **ragged), infonce(a[:, 0], b[:, 0], 14.0, **ragged), rtol=1e-13, atol=0
    )


def test_what_stands_under_a_mask_changes_nothing():
    (a, mask_a), (b, mask_b) = token_rows(7, 4), token_rows(8, 3, seed=1)
    plain = late_interaction(a, b, 5.0, mask_a=mask_a, mask_b=mask_b, **ragged)
    loud = torch.where(mask_b[..., None], b, 1e6)
    assert torch.equal(late_interaction(a, loud, 5.0, mask_a=mask_a, mask_b=mask_b, **ragged), plain)


@pytest.mark.parametrize(
    ("n_a", "n_b", "ids"), [(0, 3, None), (3, 0, None), (0, 0, None), (2, 2, [5, 6]), (2, 2, None)]
)
def test_nothing_pairs(n_a, n_b, ids):
    (a, _), (b, _) = token_rows(n_a, 4), token_rows(n_b, 3, seed=1)
    scale = torch.ones(1, requires_grad=True)
    dead = torch.zeros(n_a, 4, dtype=torch.bool) if ids is None else None  # every token masked
    loss = late_interaction(a, b, scale, mask_a=dead, sample_b=None if ids is None else torch.tensor(ids))
    assert loss.item() == 0
    for x, grad in zip((a, b, scale), torch.autograd.grad(loss, [a, b, scale]), strict=True):
        assert torch.equal(grad, torch.zeros_like(x))


def test_similarities_are_float32_at_least():
    a, b = (token_rows(16, 6, dim=32, seed=s)[0].detach() for s in (0, 1))
    b = F.normalize(a + 0.5 * b, dim=-1)
    exact = late_interaction(a, b, 100.0)
    low = [x.bfloat16().requires_grad_() for x in (a, b)]
    got = late_interaction(*low, 100.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, late_interaction(*(x.double() for x in low), 100.0).float(), rtol=1e-5, atol=1e-6)
    one, two = (x.float().requires_grad_() for x in (a, b))
    with torch.autocast("cpu", torch.bfloat16):
        auto = late_interaction(one, two, 100.0)
        grads = torch.autograd.grad(auto, [one, two])
    assert auto.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6)
    expected = torch.autograd.grad(late_interaction(one, two, 100.0), [one, two])
    assert all(torch.equal(x, y) for x, y in zip(grads, expected, strict=True))


def test_no_tensor_is_larger_than_a_tile():
    n, L = 24, 10
    (a, _), (b, _) = token_rows(n, L), token_rows(n, L, seed=1)
    with Largest() as made:
        late_interaction(a, b, 5.0, chunk=16).backward()
    assert made.numel == max(16 * L * L, n * L * 5)  # a tile, or the tokens; all similarities were n² L² = 57,600
    with Largest() as made:
        late_interaction(a, b, 5.0).backward()
    assert made.numel == n * n * L * L  # here they are one tile


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak memory")
def test_the_peak_of_memory_is_far_below_all_similarities():
    n, L, dim = 192, 32, 16
    a, b = (torch.randn(n, L, dim).requires_grad_() for _ in range(2))
    late_interaction(a[:8], b[:8], 1.0).backward()

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    late_interaction(a, b, 1.0, chunk=512).backward()
    extra = status("VmHWM") - before
    assert extra < n * n * L * L * 4 / 8  # 151 MB in float32


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (
            r"tokens are floating tensors \(n, L, D\) of one D; got \(4, 5\), \(4, 3, 5\)",
            {"tokens_a": torch.ones(4, 5)},
        ),
        (r"of one D; got \(4, 3, 6\), \(4, 3, 5\) of torch.float32", {"tokens_a": torch.ones(4, 3, 6)}),
        (r"room for one token at least; got \(4, 0, 5\)", {"tokens_a": torch.ones(4, 0, 5)}),
        (r"mask_b is \(4, 2\) of torch.bool; its tokens need \(4, 3\)", {"mask_b": torch.ones(4, 2).bool()}),
        (r"mask_a is \(4, 3\) of torch.float32; .* of torch.bool, true = real", {"mask_a": torch.ones(4, 3)}),
        (r"chunk, the pairs of rows in a tile, is at least 1; got 0", {"chunk": 0}),
        (r"positives is 'mean', 'inside' or 'sum'; got 'max'", {"positives": "max"}),
        (r"sample_a has shape \(3,\); its rows need \(4,\)", {"sample_a": torch.arange(3)}),
        (r"group_a and group_b come together; only group_a was given", {"group_a": torch.arange(4)}),
        (r"scale is one number; got a tensor of shape \(2,\)", {"scale": torch.ones(2)}),
    ],
)
def test_what_does_not_fit(message, change):
    (a, _), (b, _) = token_rows(4, 3), token_rows(4, 3, seed=1)
    with pytest.raises(ValueError, match=message):
        late_interaction(**({"tokens_a": a, "tokens_b": b, "scale": 1.0} | change))


def test_the_module_is_the_function():
    (a, mask_a), (b, mask_b) = token_rows(7, 4), token_rows(8, 3, seed=1)
    pooled = [x.mean(1).detach().requires_grad_() for x in (a, b)]
    loss = LateInteraction(positives="sum", start_scale=5.0, max_scale=8.0, learn_scale=False, chunk=7).double()
    loss.start(dim=5, modalities=2, batch=8)
    got = loss(
        pooled,
        [ragged["sample_a"], ragged["sample_b"]],
        tokens=[(a, mask_a), (b, mask_b)],
        groups=[ragged["group_a"], ragged["group_b"]],
        weights=[ragged["weight_a"], ragged["weight_b"]],
    )
    expected = late_interaction(a, b, loss.scale, mask_a=mask_a, mask_b=mask_b, positives="sum", chunk=7, **ragged)
    assert torch.equal(got, expected)
    for grad in torch.autograd.grad(got, pooled):
        assert grad.abs().max() == 0  # zero, not None: every rank has the same gradients
    assert (loss.kind, loss.needs_tokens, loss.bias, loss.limit) == ("tokens", True, None, 8.0)
    assert LateInteraction().scale.item() == pytest.approx(1 / 0.07)

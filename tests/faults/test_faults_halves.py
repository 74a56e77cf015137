"""Row 24: halves at a scale of 100, with few rows and with equal ones. The value is float64's over the same rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses import SigLIP, Symile, infonce, siglip, symile
from align.losses.infonce import InfoNCE

LOSSES = {
    "InfoNCE": (InfoNCE, 2, lambda xs, s: infonce(xs[0], xs[1], s)),
    "InfoNCE in tiles": (InfoNCE, 2, lambda xs, s: infonce(xs[0], xs[1], s, tile=3)),
    "SigLIP": (SigLIP, 2, lambda xs, s: siglip(xs[0], xs[1], s, -3.0)),
    "Symile": (Symile, 3, lambda xs, s: symile(xs, s, negatives="all")),
    "Symile, partial": (Symile, 3, lambda xs, s: symile(xs, s, negatives="partial")),
}


def loop(name: str, xs: list[Tensor], scale: float) -> float:
    """The loss in float64, by the matrix or cube of all logits."""
    xs = [x.detach().double() for x in xs]
    right = torch.arange(len(xs[0]))
    if name == "SigLIP":
        logits = scale * xs[0] @ xs[1].T - 3.0
        return float(F.softplus(logits * (1 - 2 * torch.eye(len(right), dtype=torch.float64))).sum() / len(right))
    if len(xs) == 2:
        logits = scale * xs[0] @ xs[1].T
        return float((F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2)
    cube = scale * torch.einsum("id,jd,kd->ijk", *xs)
    if name.endswith("partial"):
        i, j, k = torch.meshgrid(right, right, right, indexing="ij")
        cube = cube.masked_fill(((i == j).long() + (j == k) + (i == k)) == 0, -torch.inf)
    costs = []
    for m in range(3):
        flat = cube.movedim(m, 0)
        if name.endswith("partial"):  # the swapped row is not the anchor's
            other = right[:, None, None]
            one, two = right[None, :, None], right[None, None, :]
            flat = flat.masked_fill((one == two) & (one != other), -torch.inf)
        costs.append(flat.flatten(1).logsumexp(1) - cube[right, right, right])
    return float(torch.stack(costs).mean())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("name", LOSSES)
def test_halves_at_the_largest_scale(fault, name, kind):
    line = fault(
        "24", f"{kind} at scale 100: {name}", relative_error=fault.most(1e-5), bad_gradients=0, zero_at_none=True
    )
    make, M, call = LOSSES[name]
    draw = torch.Generator().manual_seed(0)
    error, bad = 0.0, 0
    module = make()
    module.start(32, M, 8)
    for clamp in (True, False):
        with torch.no_grad():
            module.log_scale.fill_(20.0)  # far above the limit: only clamp_ brings it back
            if clamp:
                module.clamp_()
        # The limit of each loss, 100 for two modalities. Without it a logit of 1,000 has an ulp above the bar.
        scale = float(module.scale.detach()) if clamp else 10 * module.limit
        for B, alike in ((8, False), (8, True), (1, False)):
            xs = [F.normalize(torch.randn(B, 32, generator=draw), dim=1) for _ in range(M)]
            if alike:
                xs[1] = xs[1][:1].expand(B, -1)
            xs = [x.to(kind).clone().requires_grad_() for x in xs]
            number = torch.tensor(scale, requires_grad=True)
            value = call(xs, number)
            expected = loop(name, xs, float(number.detach()))
            bad += not bool(value.isfinite())
            off = abs(float(value.detach()) - expected) / max(1.0, abs(expected))
            error = max(error, off) if clamp else error
            grads = torch.autograd.grad(value, [*xs, number])
            bad += sum(
                not bool(g.isfinite().all()) or g.dtype != x.dtype for g, x in zip(grads, [*xs, number], strict=True)
            )
    none = [torch.zeros(0, 32, dtype=kind, requires_grad=True) for _ in range(M)]
    value = call(none, torch.tensor(100.0))
    grads = torch.autograd.grad(value, none)
    line.measured(
        relative_error=error,
        bad_gradients=bad,
        zero_at_none=bool(value == 0) and all(g.shape == (0, 32) and g.dtype == kind for g in grads),
    )

"""Losses of halves that are shared out: the parts of bfloat16 rows sum to the whole, in threads and on three ranks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from few import few
from half_gpu import HALVES, multiply_halves
from parts import in_parts, joined
from ranks import on_ranks
from test_parts_every_loss import EVERY, places
from torch import Tensor

from align.distributed import rank, world
from align.losses import HardNegatives, InfoNCE, Loss, Matryoshka, MemoryQueue, SigLIP, Symile
from align.losses.kernels import products
from align.losses.kinds import KINDS
from align.objective import Objective, Term
from align.values import Embeddings, Rows

dim = 24
LOSSES = EVERY | {"infonce": InfoNCE, "siglip": SigLIP, "symile": Symile}
OWNERS = [[0, 1, 1, 3, -1, 8, 4, 5], [0, 1, 2, 3, 4, 5, -1], [0, 0, 1, 3, 3, -1, 4, 5], [1, 2, 3, 4, 5, 0]]


def given(loss: Loss, kind: torch.dtype) -> tuple[list[Tensor], list[Tensor], dict[str, Any], bool]:
    """Rows or tokens, ids, other arguments, and whether the rows are tokens."""
    draw = torch.Generator().manual_seed(1)
    owners = OWNERS[: KINDS[loss.kind].most or 3]
    shape = (3, dim) if loss.needs_tokens else (dim,)
    xs = [F.normalize(torch.randn(len(o), *shape, generator=draw), dim=-1).to(kind) for o in owners]
    more: dict[str, Any] = {
        "groups": [torch.tensor([s // 2 if s >= 0 else -1 for s in o]) for o in owners],
        "weights": [torch.tensor([0.5 + s if s >= 0 else 1.0 for s in o]) for o in owners],
    }
    if loss.needs_labels:
        more["labels"] = [places(o) for o in owners]
    return xs, [torch.tensor(o) for o in owners], more, loss.needs_tokens


def compared(name: str, kind: torch.dtype, digits: float) -> None:
    """Values of 2 and 3 parts to 1e-5 of one part's, gradients to ``digits`` of their largest, in the inputs' dtype."""
    loss = LOSSES[name]()
    xs, ids, more, of_tokens = given(loss, kind)
    loss.start(dim, len(xs), 5)

    def call(*inputs: Tensor, part: tuple[int, int] = (0, 1), merge: Any = None) -> Tensor:
        own, read = copy.deepcopy(loss), dict(more)  # each part has its parameters
        rows = inputs
        if of_tokens:
            read["tokens"] = [(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in inputs]
            rows = [x.mean(1) for x in inputs]
        return own(list(rows), ids, part=part, merge=merge, **read)

    whole = [x.clone().requires_grad_() for x in xs]
    value = call(*whole)
    grads = torch.autograd.grad(value, whole, materialize_grads=True)
    for parts in (2, 3):
        got, summed = joined(in_parts(call, xs, parts))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, value.detach(), rtol=1e-5, atol=1e-6)
        for found, right in zip(summed, grads, strict=True):
            assert found.dtype == kind
            assert float((found.float() - right.float()).abs().max()) <= digits * float(right.abs().max()) + 1e-9


@pytest.mark.parametrize("kind", HALVES, ids=str)
@pytest.mark.parametrize("name", few(LOSSES, 8))
def test_parts_of_halves_sum_to_the_whole_on_a_cpu(name, kind):
    compared(name, kind, 2**-7)


@pytest.mark.parametrize("kind", HALVES, ids=str)
@pytest.mark.parametrize("name", few(LOSSES, 8))
def test_parts_of_halves_sum_to_the_whole_on_a_gpu(monkeypatch, name, kind):
    multiply_halves(monkeypatch)
    compared(name, kind, 2**-6)


MODALITIES = {"audio": [1, 1, 4, 7, 2], "image": [0, 1, 2, 4, 6, 7], "text": [0, 0, 1, 2, 2, 4, 5, 6, 7]}


def outcome(halves: bool = True) -> dict[str, Any]:
    """Values, and the ranks' mean gradient of float32 weights, of an objective of bfloat16 rows."""
    part, parts = rank(), world()
    three, pair = [*MODALITIES], ["image", "text"]
    terms = {name: Term(LOSSES[name](), pair) for name in ("infonce", "siglip", "hinge", "late", "transport", "vicreg")}
    terms |= {name: Term(LOSSES[name](), three) for name in ("symile", "gram", "triangle")}
    terms["queue"] = Term(MemoryQueue(InfoNCE(), 5), pair)
    terms["prefixes"] = Term(Matryoshka(InfoNCE(), [8, dim]), three)
    terms["hard"] = Term(HardNegatives(InfoNCE(), weight=2.0), pair)
    objective = Objective(terms, dim=dim, batch=8, modalities=three)
    draw = torch.Generator().manual_seed(3)
    weights = {m: torch.randn(4, dim, generator=draw).requires_grad_() for m in MODALITIES}
    rows = {}
    for m, owners in MODALITIES.items():
        owner = torch.tensor(owners)
        inputs = torch.randn(len(owners), 3, 4, generator=draw)[owner % parts == part]
        tokens = F.normalize(inputs @ weights[m], dim=2)
        values = F.normalize(tokens.mean(1), dim=1)
        # One process rounds too, so that both see the same rows.
        values, tokens = (x.bfloat16() for x in (values, tokens))
        if not halves:
            values, tokens = values.float(), tokens.float()
        ids = (owner // parts)[owner % parts == part]
        rows[m] = Rows(values, ids, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
    samples = torch.arange(part, 8, parts)
    frame = Embeddings(rows, [str(int(s)) for s in samples], samples)
    total, values = objective(frame, generator=torch.Generator().manual_seed(11))
    total.backward()
    grads = {}
    for name, x in {**weights, **dict(objective.named_parameters())}.items():
        assert x.grad is not None, name
        grads[name] = x.grad.clone()
        if parts > 1:
            dist.all_reduce(grads[name])
            grads[name] /= parts
    return {"loss": total.detach(), "values": values, "grads": grads}


def case_cpu() -> Any:
    return outcome()


def case_gpu() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        multiply_halves(patch)
        assert products.has_half_products(torch.device("cpu"))
        return outcome()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return on_ranks([case_cpu, case_gpu], tmp_path_factory.mktemp("ranks"), world=3)


@pytest.mark.sweep
@pytest.mark.parametrize("case", ["cpu", "gpu"])
def test_three_ranks_with_halves_are_one_process(three, case):
    alone = case_cpu() if case == "cpu" else case_gpu()
    wide = outcome(halves=False)
    for result in three[f"case_{case}"]:
        for right in (alone, wide):
            for name, value in right["values"].items():
                rounded = right is wide and case == "gpu" and name.startswith("prefixes")  # a GPU takes them as halves
                near = 2e-3 if rounded else 2e-5
                torch.testing.assert_close(result["values"][name], value, rtol=near, atol=near)
            for name, grad in right["grads"].items():
                off = float((result["grads"][name] - grad).abs().max())
                assert off <= 2**-6 * float(grad.abs().max()) + 1e-6, (name, off, float(grad.abs().max()))
    assert all(float(alone["grads"][m].abs().max()) > 1e-3 for m in MODALITIES)

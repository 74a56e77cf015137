"""Losses that take their gradient in tiles refuse a second derivative in one sentence; the others have it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import align.losses
from align.losses import deep_cca, gram, hinge, infonce, late_interaction, siglip, symile, transport
from align.losses.kernels.tuple_logits import tuple_logits

root = Path(align.losses.__file__).parent


def rows(seed: int, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=draw), dim=-1).requires_grad_()


a, b, c = (rows(seed, 4, 5) for seed in range(3))
words = [rows(seed, 4, 3, 5) for seed in (4, 5)]
tiled = {
    "infonce": (lambda: infonce(a, b, 5.0, tile=4), a),
    "siglip": (lambda: siglip(a, b, 5.0, -1.0), a),
    "symile, all": (lambda: symile([a, b, c], 5.0), a),
    "symile, partial": (lambda: symile([a, b, c], 5.0, negatives="partial"), a),
    "symile, shuffled": (lambda: symile([a, b, c], 5.0, negatives="shuffled"), a),
    "tuple_logits": (lambda: tuple_logits([a, b], torch.tensor(2.0).double(), torch.tensor([[0, 1]])).sum(), a),
    "late_interaction": (lambda: late_interaction(*words, 5.0), words[0]),
    "transport": (lambda: transport(*words, 5.0), words[0]),
    "deep_cca": (lambda: deep_cca(a, b), a),
}


@pytest.mark.parametrize("name", tiled)
def test_one_message(name):
    loss, x = tiled[name]
    (first,) = torch.autograd.grad(loss(), x)
    assert first.abs().max() > 0
    message = "this loss takes its gradient in tiles and cannot differentiate twice: call backward or autograd.grad"
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(loss(), x, create_graph=True)


@pytest.mark.parametrize("name", ["hinge", "gram", "infonce", "transport, none"])
def test_the_others_have_it(name):
    loss, x = {
        "hinge": (lambda: hinge(a, b, margin=2.0, negatives="sum").square(), a),
        "gram": (lambda: gram([a, b, c], 5.0), a),
        "infonce": (lambda: infonce(a, b, 5.0), a),
        "transport, none": (lambda: transport(*words, 5.0, negatives="none"), words[0]),
    }[name]
    (first,) = torch.autograd.grad(loss(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.abs().max() > 0


def test_every_function_of_ours_says_it():
    """No file of the losses has a backward pass of its own without the sentence."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "backward":
                called = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
                found[path.name] = "refuse_second_derivative" in called
    assert not found.pop("dense.py")  # which has one
    assert not found.pop("multiply.py")  # it has all
    assert len(found) == 7
    assert all(found.values()), found

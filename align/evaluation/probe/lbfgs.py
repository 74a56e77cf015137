"""L-BFGS for several independent problems at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

HISTORY, CELLS = 20, 16 << 20  # steps remembered, and the numbers that they may take
STEPS, HALVINGS, ENOUGH = 1000, 30, 1e-4
WINDOW, FALL = 10, 1e-9  # a value that falls by less in so many steps is at its end

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (p, q), numbers (p,) of their problems) -> (values (p,), gradients (p, q))."""


class Minimum(NamedTuple):
    """Points at the end. x: (P, q). value: (P,). steps: (P,) int64. done: (P,) bool, False where the steps ran out."""

    x: Tensor
    value: Tensor
    steps: Tensor
    done: Tensor


class Pair(NamedTuple):
    """A step and what it did. step: (p, q). change: (p, q), of the gradient. inverse: (p,), 1 / their product."""

    step: Tensor
    change: Tensor
    inverse: Tensor


def minimise(
    objective: Objective, x: Tensor, tolerance: float = 1e-6, steps: int = STEPS, fall: float = FALL
) -> Minimum:
    """Minimise P convex functions from the points x (P, q) (Liu and Nocedal 1989, doi:10.1007/BF01589116).

    A step is shortened until the value falls by Armijo's rule. A problem ends where its gradient has a norm of at most
    ``tolerance``, where WINDOW steps make its value smaller by less than ``fall``, where no step makes it smaller, or
    after ``steps`` steps.
    """
    at = torch.arange(len(x))  # problems that go on: all below but the answers has a row for each of these
    x = x.clone()
    value, gradient = objective(x, at)
    out = Minimum(x.clone(), value.clone(), torch.zeros_like(at), torch.zeros(len(x), dtype=torch.bool))
    remembered = max(3, min(HISTORY, CELLS // max(1, 2 * x.numel())))
    past: list[Pair] = []
    before, goes = value.clone(), torch.ones(len(x), dtype=torch.bool)
    for number in range(steps + 1):
        met = gradient.norm(dim=1) <= tolerance
        goes = goes & ~met
        if number % WINDOW == 0 and number:
            goes &= (before - value) > fall
            before = value.clone()
        if number == steps:
            goes[:] = False
        if not bool(goes.all()):
            ended = at[~goes]
            out.x[ended], out.value[ended], out.steps[ended] = x[~goes], value[~goes], number
            out.done[ended] = met[~goes] | (number < steps)
            at, x, value, gradient, before = at[goes], x[goes], value[goes], gradient[goes], before[goes]
            past = [Pair(*(part[goes] for part in one)) for one in past]
        if not len(at):
            break
        moved, new_value, new_gradient, goes = _search(objective, x, at, value, gradient, _direction(gradient, past))
        step, change = moved - x, new_gradient - gradient
        product = (step * change).sum(dim=1)
        sound = product > 1e-12 * change.pow(2).sum(dim=1)
        past = [*past[-(remembered - 1) :], Pair(step, change, torch.where(sound, 1 / product, 0.0))]
        x, value, gradient = moved, new_value, new_gradient
    return out


def _direction(gradient: Tensor, past: list[Pair]) -> Tensor:
    """Return the two-loop recursion's direction (p, q), and the steepest one where it does not descend."""
    q, kept = gradient.clone(), []
    for step, change, inverse in reversed(past):
        a = inverse * torch.linalg.vecdot(step, q)
        q.addcmul_(a[:, None], change, value=-1)
        kept.append(a)
    for _, change, inverse in reversed(past):  # the scale of the last sound pair
        scale = 1 / (inverse * change.pow(2).sum(dim=1))
        sound = inverse > 0
        if bool(sound.any()):
            q *= torch.where(sound, scale, 1.0)[:, None]
            break
    for (step, change, inverse), a in zip(past, reversed(kept), strict=True):
        b = inverse * torch.linalg.vecdot(change, q)
        q.addcmul_((a - b)[:, None], step)
    falls = (q * gradient).sum(dim=1) > 0
    return torch.where(falls[:, None], -q, -gradient)


def _search(
    objective: Objective, x: Tensor, number: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the points, values and gradients after a step that is long enough, and (p,) bool: the value fell."""
    slope = (gradient * direction).sum(dim=1)
    length = torch.ones(len(x), dtype=x.dtype)
    new_x, new_value, new_gradient = x.clone(), value.clone(), gradient.clone()
    left = torch.arange(len(x))
    for _ in range(HALVINGS):
        tried = x[left] + length[left, None] * direction[left]
        found, slant = objective(tried, number[left])
        bound = value[left] + ENOUGH * length[left] * slope[left] + 1e-15 * value[left].abs()
        good = found <= bound
        at = left[good]
        new_x[at], new_value[at], new_gradient[at] = tried[good], found[good], slant[good]
        left, found = left[~good], found[~good]
        if not len(left):
            break
        t = length[left]
        best = -slope[left] * t * t / (2 * (found - value[left] - slope[left] * t))  # of the parabola through them
        length[left] = torch.where(best.isfinite(), best, 0.5 * t).clamp(0.1 * t, 0.5 * t)
    fell = torch.ones(len(x), dtype=torch.bool)
    fell[left] = False
    return new_x, new_value, new_gradient, fell

"""Heads by one method, from the moments of each column's pairs with the anchor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from align.bind.moments import Moments
from align.bind.procrustes import solve_procrustes
from align.bind.ridge import choose_strength, solve_ridge
from align.bind.shift import solve_shift
from align.bind.subspace import canonical_directions, fitted_directions, shared_directions
from align.heads import Centered, Identity, Linear

Method = Literal["ridge", "procrustes", "cca", "shift"]
METHODS: tuple[str, ...] = get_args(Method)
CCA_DIM = 128
"""Directions of cca where no dim is given, or as many as there are."""


@dataclass(frozen=True)
class Fitted:
    """Heads in closed form. heads: modality -> head, with the anchor's. dim: of the joint space.

    facts: modality -> name -> number: pairs, strength and degrees of freedom. notes: lines for the reader.
    correlations: (k,) of cca: the square root of the share of each direction that the other columns explain.
    """

    heads: dict[str, nn.Module]
    dim: int
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    correlations: Tensor | None = None


def fit_heads(
    pairs: Mapping[str, Moments], anchor: str, how: Method, *, dim: int | None = None, keep_anchor: bool = False
) -> Fitted:
    """Return the heads of the anchor and of every column that is paired with it.

    pairs: modality -> moments of its rows x and the anchor's rows y. All y have one width. dim: directions of the
    anchor's space to keep. None keeps all numbers of the anchor, and for cca 128 directions at most. keep_anchor: the
    anchor's rows stay as they are. Otherwise their mean is subtracted, or they are projected.

    Raises ValueError for an unknown method, a dim that the columns do not have, too few pairs, and for options that
    exclude each other.
    """
    check_method(how)
    width = len(next(iter(pairs.values())).mean_y)
    most = width if how == "shift" else min(width, sum(len(m.mean_x) for m in pairs.values()))
    if how == "cca":
        few = min(m.n for m in pairs.values())
        dim = min(CCA_DIM, most, max(few - 1, 1)) if dim is None else dim
        if few < dim + 1:
            raise ValueError(
                f"cca of {dim} directions needs {dim + 1} pairs at least, there are {few}; take a lower dim"
            )
    _check(how, dim, most, keep_anchor, anchor)
    facts = {m: {"pairs": float(moments.n)} for m, moments in pairs.items()}
    mean = torch.stack([moments.mean_y for moments in pairs.values()]).mean(0)  # (D,)
    n = sum(moments.n for moments in pairs.values())
    if how == "shift":
        heads = {m: _center(solve_shift(x, m, anchor, keep_anchor), x.n) for m, x in pairs.items()}
        return Fitted({**heads, anchor: Identity(width, width) if keep_anchor else _center(mean, n)}, width, facts)
    found = {m: choose_strength(moments) for m, moments in pairs.items()} if how != "procrustes" else {}
    for m, strength in found.items():
        facts[m] |= {"strength": strength.value, "freedom": strength.freedom}
    strengths, correlations = [x.value for x in found.values()], None
    basis = None  # (D, k)
    if how == "cca" and dim is not None:
        basis, shares = canonical_directions([*pairs.values()], strengths, dim)
        correlations = shares.div(len(pairs)).clamp(max=1).sqrt()
    elif dim is not None:
        given = [*pairs.values()]
        basis = shared_directions(given, dim) if how == "procrustes" else fitted_directions(given, strengths, dim)
    heads: dict[str, nn.Module] = {}
    for m, moments in pairs.items():
        seen = moments if basis is None else _project(moments, basis)
        solution = solve_procrustes(seen) if how == "procrustes" else solve_ridge(seen, found[m].value)  # (W, k)
        start = torch.zeros_like(mean) if keep_anchor else mean
        target = moments.mean_y - start
        heads[m] = _affine(solution, moments.mean_x, target if basis is None else target @ basis)
    if basis is not None:
        heads[anchor] = _affine(basis, mean, basis.new_zeros(basis.shape[1]))
    else:
        heads[anchor] = Identity(width, width) if keep_anchor else _center(mean, n)
    ends = [m for m, strength in found.items() if strength.at_end]
    notes = [f"{m}: the strength of ridge is at the end of those tried" for m in ends]
    return Fitted(heads, width if basis is None else basis.shape[1], facts, notes, correlations)


def check_method(name: str) -> Method:
    """Return the name of a method. Raises ValueError, with the nearest name, where there is no such method."""
    if name in METHODS:
        return cast(Method, name)
    near = get_close_matches(name, METHODS, 1, 0.5)
    says = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}"
    raise ValueError(f"there is no method {name!r}; {says}")


def _check(how: str, dim: int | None, most: int, keep: bool, anchor: str) -> None:
    if dim is not None and how == "shift":
        raise ValueError("shift keeps all numbers of a row; leave dim out, or take cca")
    if dim is not None and keep:
        raise ValueError(f"keep_anchor leaves all numbers of {anchor} in place, and {how} takes a dim; choose one")
    if dim is not None and not 1 <= dim <= most:
        raise ValueError(f"dim is 1 to {most}, the directions that {anchor} and the columns have; got {dim}")


def _project(moments: Moments, basis: Tensor) -> Moments:
    """Return the moments with y along the columns of the basis (D, k)."""
    n, mean_x, mean_y, xx, xy, yy = moments
    return Moments(n, mean_x, mean_y @ basis, xx, xy @ basis, basis.T @ yy @ basis)


def _affine(solution: Tensor, mean: Tensor, target: Tensor) -> Linear:
    """Return the head x → (x - mean) · solution + target. solution: (W, k). mean: (W,). target: (k,)."""
    head = Linear(*solution.shape, bias=True)
    with torch.no_grad():
        head.project.weight.copy_(solution.T)
        head.project.bias.copy_(target - mean @ solution)
    return head


def _center(centroid: Tensor, n: int) -> Centered:
    """Return the head x → x - centroid. n: rows that it is the mean of."""
    head = Centered(len(centroid), len(centroid), Identity).fit_(centroid[None])
    head.count.fill_(n)
    return head

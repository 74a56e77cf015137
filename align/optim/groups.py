"""Parameter groups: which parameters share a rate, a weight decay and a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

from torch import nn

from align.model.inside import in_shards, model_inside, plain_name
from align.optim.schedules import Schedule


@final
@dataclass(frozen=True)
class Group:
    """Settings of the parameters whose names match a pattern.

    Args:
        lr: their rate as a multiple of `optim.lr`.
        weight_decay: for all of them. Default: `optim.weight_decay`, for their matrices only.
        schedule: of their rate. Default: the schedule of the run.
    """

    lr: float = 1.0
    weight_decay: float | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if self.lr < 0 or (self.weight_decay or 0) < 0:
            raise ValueError(
                "lr, a multiple of optim.lr, and weight_decay of optim.groups must be at least 0; "
                f"got {self.lr} and {self.weight_decay}"
            )


def named_parameters(model: nn.Module, objective: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter once by its plain name, which knows no wrapper of torch's or Lightning's.

    Names are ``model.towers.image.…`` and ``objective.losses.…``.
    """
    found: dict[str, nn.Parameter] = {}
    for of, module in (("model", model_inside(model)), ("objective", objective)):
        plain = plain_name(module)
        found |= {f"{of}.{plain(name)}": p for name, p in module.named_parameters()}
    return found


def parameter_groups(
    parameters: Mapping[str, nn.Parameter],
    groups: Mapping[str, Group],
    *,
    weight_decay: float,
    rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the groups for an optimiser: matrices decay, while vectors, scalars and norms do not.

    Each has `params`, `param_names`, `weight_decay` and `pattern`, the first one that its parameters match, or None.
    Groups without a pattern come first. Frozen parameters (``requires_grad=False``) are left out.

    rates: factor of the rate by parameter, beside that of its pattern. A group has its own as ``lr_factor``.

    Raises ValueError for a pattern that no parameter matches first.
    """
    rates = rates or {}
    kinds = sorted({in_shards(p) for p in parameters.values()})
    made: dict[tuple[str | None, float, float, bool], dict[str, Any]] = {
        (pattern, decay, rate, sharded): {"params": [], "param_names": [], "weight_decay": decay, "pattern": pattern}
        | ({} if rate == 1 else {"lr_factor": rate})
        for pattern in (None, *groups)
        for rate in sorted({1.0, *rates.values()}, reverse=True)
        for decay in _decays(groups.get(pattern or ""), weight_decay)
        for sharded in kinds  # no optimiser takes tensors of both kinds in one group
    }
    matched = set()
    for name, p in parameters.items():
        pattern = next((pattern for pattern in groups if fnmatchcase(name, pattern)), None)
        matched.add(pattern)
        if p.requires_grad:
            decays = _decays(groups.get(pattern or ""), weight_decay)
            group = made[pattern, decays[0 if p.ndim >= 2 else -1], rates.get(name, 1.0), in_shards(p)]
            group["params"].append(p)
            group["param_names"].append(name)
    for pattern in groups:
        if pattern not in matched:
            before = [other for other in groups if other != pattern and any(fnmatchcase(n, other) for n in parameters)]
            taken = any(fnmatchcase(name, pattern) for name in parameters)
            why = f"every parameter that it matches is {' or '.join(before)}'s" if taken else "it matches no parameter"
            raise ValueError(f"optim.groups.{pattern}: {why}; names are like {', '.join(_examples(parameters))}")
    return [group for group in made.values() if group["params"]]


def _decays(group: Group | None, weight_decay: float) -> tuple[float, ...]:
    """Return the weight decay of matrices and that of the rest, or the one of both."""
    return (weight_decay, 0.0) if group is None or group.weight_decay is None else (group.weight_decay,)


def _examples(parameters: Mapping[str, nn.Parameter]) -> list[str]:
    """Return the first name, one from the middle, and the last."""
    names = list(parameters)
    return list(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))

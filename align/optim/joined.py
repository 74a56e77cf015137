"""Several optimisers behind one: matrices under Muon, say, and the rest under AdamW."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, final

import torch
from torch.optim import Optimizer

Factory = Callable[[list[dict]], Optimizer]
"""Parameter groups -> an optimiser of them: a class of optimisers with its other arguments given."""


@final
class Joined(Optimizer):
    """One optimiser for the matrices of the hidden layers and one for all other parameters.

    .. code-block:: yaml

        optimizer:
          class_path: align.optim.Joined
          init_args:
            matrices: {class_path: torch.optim.Muon, init_args: {adjust_lr_fn: match_rms_adamw}}
            rest: {class_path: torch.optim.AdamW, init_args: {betas: [0.9, 0.98]}}
            but: ["*embed*", "*.head.*"]

    Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) and its like take parameters of two dimensions alone.
    `rest` may be another Joined.

    Args:
        groups: the parameter groups, from `Optim`, with ``param_names`` where `but` is given.
        matrices: makes the optimiser of the parameters of two dimensions.
        rest: makes the optimiser of all others.
        but: patterns of names of matrices that belong to the rest.
        matrices_lr: the rate of the matrices as a multiple of their groups' rate.

    Raises ValueError where a pattern matches no parameter, or no matrix is left.
    """

    def __init__(
        self,
        groups: list[dict],
        matrices: Factory,
        rest: Factory,
        but: Sequence[str] = (),
        matrices_lr: float = 1.0,
    ):
        known = [name for group in groups for name in group.get("param_names", [])]
        for pattern in but:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise ValueError(f"but: {pattern!r} matches no parameter")
        ours, others = [], []
        for group in groups:
            names = group.get("param_names", [""] * len(group["params"]))
            chosen = [
                p.ndim == 2 and not any(fnmatchcase(name, pattern) for pattern in but)
                for p, name in zip(group["params"], names, strict=True)
            ]
            ours += _part(group, chosen, lr_factor=matrices_lr * group.get("lr_factor", 1.0))
            others += _part(group, [not yes for yes in chosen])
        if not ours:
            raise ValueError("no parameter of two dimensions is left for `matrices` of align.optim.Joined")
        self.parts: list[Optimizer] = [make(some) for make, some in ((matrices, ours), (rest, others)) if some]
        super().__init__(self._groups(), {})  # the very dicts of the parts, so that a rate set here holds there

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The states of all parts, in a new dict: an addition to it changes no part."""
        return {p: values for part in self.parts for p, values in part.state.items()}

    @state.setter
    def state(self, value: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Ignore the state that torch's constructor sets: the parts have theirs."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Let each part take its step. Returns the closure's value."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each part its share of a state from `state_dict`, which numbers the parameters through all groups."""
        groups = list(state_dict["param_groups"])
        for part in self.parts:
            some, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            numbers = [i for group in some for i in group["params"]]
            state = {i: state_dict["state"][i] for i in numbers if i in state_dict["state"]}
            part.load_state_dict({"state": state, "param_groups": some})
        self.param_groups = self._groups()


def _part(group: dict, chosen: list[bool], **more: float) -> list[dict]:
    """Return a list of one group, that of the chosen parameters. It is empty where none is chosen."""
    if not any(chosen):
        return []
    lists = {key: group[key] for key in ("params", "param_names") if key in group}
    some = {key: [x for x, yes in zip(xs, chosen, strict=True) if yes] for key, xs in lists.items()}
    return [{**group, **some, **more}]

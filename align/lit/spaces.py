"""Terms of spaces against the heads of the model: both name the same spaces in one order."""

from __future__ import annotations

from align.losses import Across, Spaces
from align.model import JointModel
from align.model.spaces import list_spaces
from align.objective import Objective


def check_spaces(model: JointModel, objective: Objective) -> None:
    """Raise ValueError where a term names other spaces than the heads of its modalities, or in another order."""
    found = list_spaces(model)
    for name, term in objective.terms.items():
        for loss in term.loss.modules():
            if not isinstance(loss, Spaces | Across):
                continue
            for m in {m for contrast in objective.contrasts[name] for m in contrast.modalities if m in found}:
                if found[m] != loss.spaces:
                    has, wants = ", ".join(found[m]), ", ".join(loss.spaces)
                    raise ValueError(f"term {name!r} has the spaces {wants}; the head of {m} has {has}")

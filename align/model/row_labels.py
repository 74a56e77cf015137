"""Labels of rows beside their values, for heads that ask for them, as ``align.heads.Experts`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.labels import find_places
from align.values import Rows, Values

LABELS = "__labels__"
"""Name of the labels among the values of a row."""
PLAIN = "__values__"
"""Name of values that are one tensor."""


def add_labels(head: Any, rows: Rows, labels: Sequence[Any]) -> Values:
    """Return the values of rows, with the places of their labels where the head asks: its ``needs_labels`` is true.

    The labels are one more column of the values, so whoever cuts rows into chunks cuts them too. A hard negative has
    the label of its sample. labels: those of the samples, (): none, and the values stay as they are.

    Raises ValueError for a head without names of its classes, and for a sample without a class where the head needs
    one (its ``unlabelled`` is "refuse").
    """
    if not getattr(head, "needs_labels", False) or not len(labels) or not rows.n:
        return rows.values
    if not head.classes:
        raise ValueError(f"its head reads the classes of {head.attribute!r} and knows none: give classes=[...]")
    places = F.pad(find_places(labels, head.attribute, head.classes), (0, 1), value=-1)  # (B, K + 1)
    owner = rows.owner.cpu()
    of_rows = torch.where(owner[:, None] >= 0, places[owner.clamp(min=0)], -1)  # (n, K + 1)
    if head.unlabelled == "refuse" and (lacking := (of_rows < 0).all(1)).any():
        found = labels[int(owner[lacking][0])]
        known = ", ".join(head.classes)
        raise ValueError(
            f"its head sends a row to the expert of its {head.attribute!r}, one of {known}; {int(lacking.sum())} of "
            f"{rows.n} rows have none of these, as the label {found!r}"
        )
    values = rows.values if isinstance(rows.values, dict) else {PLAIN: rows.values}
    return {**values, LABELS: of_rows.to(rows.sample.device)}


def take_labels(values: Values) -> tuple[Values, Tensor | None]:
    """Return values without their column of labels, and the labels (n, K), or None where there are none."""
    if not isinstance(values, dict) or LABELS not in values:
        return values, None
    rest = {name: x for name, x in values.items() if name != LABELS}
    return rest.get(PLAIN, rest), values[LABELS]

"""Relatives: rows of concepts with a common ancestor are no negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.files.concepts import find_ancestors, read_concepts
from align.losses.kernels.rule import Rule
from align.losses.loss import Given, apply
from align.losses.wrappers.window import check_smoothing
from align.losses.wrappers.wrapper import Wrapper


@final
class Relatives(Wrapper):
    """A loss between two modalities without false negatives of a hierarchy (KEEP, Zhou et al. 2024, arXiv 2412.13126).

    A row's concepts are its labels and those at most ``up`` steps above. Two rows with a common concept are no
    negatives: a picture of a seven and the caption "an odd number". Siblings share their parent, cousins need up=2.
    Unlike a ``group``, a label may have several parents, and a row several labels. Positives stay positives, and pairs
    with the grade bad stay negatives. In a config:

        pair:
          loss:
            class_path: align.losses.Relatives
            init_args:
              file: configs/ideas/digit_concepts.json
              attribute: digit
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    A row without a label has no relatives. A label that the file does not have is a concept without parents. In eval
    mode it is the loss itself.

    loss: InfoNCE or SigLIP, or a wrapper around one. file: see ``align.files.concepts``. attribute: of the labels.
    up: steps, 0 for rows of one label alone.

    Raises ValueError for another loss, for up below 0, and for a file of another form.
    """

    def __init__(self, loss: nn.Module, file: str, attribute: str = "label", up: int = 1):
        super().__init__(loss)
        if not self.takes_rule or self.needs_labels:
            raise ValueError(
                f"Relatives leaves pairs out of a loss that takes them by pairs, InfoNCE or SigLIP; "
                f"{type(loss).__name__} does not"
            )
        check_smoothing(self)
        if up < 0:
            raise ValueError(f"up is a number of steps, at least 0; got {up}")
        self.concepts = read_concepts(file)
        self.file, self.attribute, self.up = file, attribute, up
        self.needs_labels = True
        self._names: list[str] = []
        self._concepts_of = torch.zeros(0, 1, dtype=torch.int64)

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of the labels."""
        return self._names

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the labels, and find the concepts of each."""
        self._names = [*names]
        found = [find_ancestors(self.concepts, name, self.up) for name in names]
        place = {name: i for i, name in enumerate(dict.fromkeys(name for each in found for name in each))}
        most = max(map(len, found), default=1)
        ids = [[place[name] for name in each] + [-1] * (most - len(each)) for each in found]
        self._concepts_of = torch.tensor(ids, dtype=torch.int64).view(len(found), most)  # (C, K)

    def around(self, given: Given) -> Tensor:
        """Return the inner loss without the pairs of relatives. Raises ValueError without labels."""
        if not self.training:
            return apply(self.loss, given)
        if given.labels is None or not self._names:
            raise ValueError(
                "Relatives reads labels: call name_classes([...]), and it with labels=[places (n, K), ...]"
            )
        rule = given.rule or Rule()
        ids = [self._find(places) for places in given.labels]
        if rule.alike is not None:  # ids of content, which a bank gives
            above = 1 + max(int(x.max()) if x.numel() else 0 for x in rule.alike)
            ids = [
                torch.cat([x, torch.where(y >= 0, y + above, -1)], dim=1) for x, y in zip(rule.alike, ids, strict=True)
            ]
        return apply(self.loss, given._replace(rule=replace(rule, alike=(ids[0], ids[1])), labels=None))

    def _find(self, places: Tensor) -> Tensor:
        """Return the concepts (n, K') of rows with labels at places (n, K), then -1."""
        table = F.pad(self._concepts_of, (0, 0, 0, 1), value=-1).to(places.device)  # the last row is of no label
        found = table[torch.where(places >= 0, places, -1)].flatten(1)  # (n, K·K')
        return found if found.shape[1] else F.pad(found, (0, 1), value=-1)

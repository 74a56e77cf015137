"""Scores of a model that ends after each of its layers, with the first numbers of its embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from align.encoders.layered import Layered
from align.evaluation.findings import Findings
from align.evaluation.retrieval import Retrieval
from align.evaluation.space import Space
from align.evaluation.zeroshot import ZeroShot
from align.model import JointModel
from align.model.layers import at_layer
from align.page.section import Section, Table
from align.values import Scores

KEPT = ("accuracy", "map", "recall@1")
"""Last parts of the names of the scores that are kept of zero-shot and retrieval."""


@final
@dataclass(frozen=True)
class ByLayer:
    """``layers/LAYER/NUMBERS/SCORE``: accuracy, recall@1 and mAP against layers × prefixes (2-D Matryoshka).

    The towers of ``align.encoders.Layered`` end after the layer. A tower without this layer stays whole. The numbers
    are the prefixes that all trained terms share (``align.losses.Matryoshka``), and all coordinates. The rows are
    embedded again for each earlier layer.
    """

    name = "layers"

    def run(self, space: Space) -> Findings:
        """Return the scores, and a table of each against layer and size.

        Raises ValueError for a model without a layered tower.
        """
        layers, sizes = list_layers(space.model), list_sizes(space.model)
        if not layers:
            raise ValueError("--with layers: no tower's encoder is align.encoders.Layered, so the model has one depth")
        found: dict[str, dict[tuple[int, int], float]] = {}
        for layer in layers:
            space.announce(f"layer {layer}")
            ended = space if layer == layers[-1] else space.of_model(end_after(space.model, layer))
            for size in sizes:
                short = ended if size == space.model.dim else ended.of_first(size)
                scores = ZeroShot().run(short).scores | Retrieval().run(short).scores
                for name, value in scores.items():
                    if name.rpartition("/")[2] in KEPT:
                        found.setdefault(name, {})[layer, size] = value
        flat: Scores = {
            f"layers/{layer}/{size}/{name}": value
            for name, grid in found.items()
            for (layer, size), value in grid.items()
        }
        rows = [
            [name, str(layer), *(grid.get((layer, size)) for size in sizes)]
            for name, grid in found.items()
            for layer in layers
        ]
        head = ("score", "layer", *(f"{size} numbers" for size in sizes))
        note = "each layer is the model that ends there, each column the first numbers of its embeddings"
        section = Section("Layers and sizes", note, [Table(head, rows, left=2)]) if rows else None
        return Findings(flat, {"layers": layers, "sizes": sizes}, section)


def list_layers(model: JointModel) -> list[int]:
    """Return the layers of all layered towers, growing."""
    encoders = [tower.encoder for tower in model.towers.values()]
    return sorted({layer for encoder in encoders if isinstance(encoder, Layered) for layer in encoder.layers})


def list_sizes(model: JointModel) -> list[int]:
    """Return the prefixes that all trained terms share, and the model's dim."""
    shared = set.intersection(*({*term.prefixes} for term in model.terms)) if model.terms else set()
    return sorted({size for size in shared if size < model.dim} | {model.dim})


def end_after(model: JointModel, layer: int) -> JointModel:
    """Return the model whose towers end after a layer, those that have it."""
    for m, tower in model.towers.items():
        if "encoder" in tower._modules and isinstance(tower.encoder, Layered) and layer in tower.encoder.layers:
            model = at_layer(model, layer, m)
    return model

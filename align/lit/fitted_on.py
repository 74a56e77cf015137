"""The towers whose cached features a run's heads are fitted on, compared with those of an earlier checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.checkpoint import read_heads
from align.data import Columns
from align.data.mixing.sources import Sources
from align.data.reading import Reading
from align.files import read_json
from align.model import JointModel
from align.model.inside import unwrap
from align.values import FeatureOrigin

FACTS = ("weights", "preprocess")


def note_towers(model: JointModel, sources: Sequence[Reading | None], checkpoint: Path | None) -> None:
    """Note on each tower of the model the column that its head is fitted on.

    sources: the training and the validation data. checkpoint: the one that the run goes on from, None for a new run.

    Raises ValueError, with both hashes, where two sources have columns of different towers for one modality, where the
    checkpoint's head was fitted on another tower, and where a column's rows do not fit their tower here.
    """
    found: dict[str, FeatureOrigin] = {}
    for source in sources:
        parts = source.sources.values() if isinstance(source, Sources) else [source]
        for part in (part for part in parts if isinstance(part, Columns)):
            part.check(model.preprocess)
            for m in (m for m in part.columns if m in model.modalities):
                origin = part.columns[m].read_origin()
                _compare(m, found.setdefault(m, origin), origin, "two columns of one modality come from one tower")
    for m, content in _read_known(checkpoint).items():
        known = FeatureOrigin(**content)
        if m in found:
            remedy = "train in another --run, or fit the head anew in one that begins with --start"
            _compare(m, known, found[m], remedy)
        found.setdefault(m, known)
    for m, origin in found.items():
        if m in model.modalities:
            unwrap(model.towers[m]).fitted_on = origin


def describe_refits(before: Mapping[str, Mapping[str, Any]], model: JointModel) -> list[str]:
    """Return a line for each head that goes on with another tower's features than it was fitted on.

    before: ``align.checkpoint.read_heads`` of the model that the run starts from (``--start``).
    """
    lines = []
    for m, origin in read_heads(model).items():
        known = before.get(m)
        if known and any(known[fact] != origin[fact] for fact in FACTS):
            lines.append(
                f"the head {m!r} is fitted anew: it was fitted on the {known['modality']} tower of {known['model']} "
                f"(weights {known['weights'][:12]}), and goes on with that of {origin['model']} (weights "
                f"{origin['weights'][:12]})"
            )
    return lines


def _read_known(checkpoint: Path | None) -> dict[str, Any]:
    return {} if checkpoint is None else read_json(checkpoint / "model.json").get("heads", {})


def _compare(modality: str, known: FeatureOrigin, now: FeatureOrigin, remedy: str) -> None:
    kinds = known.column.get("kind"), now.column.get("kind")
    odd = [(fact, getattr(known, fact), getattr(now, fact)) for fact in FACTS]
    odd = [(fact, a[:12], b[:12]) for fact, a, b in odd if a != b] or [("kind", *kinds)] * (kinds[0] != kinds[1])
    if odd:
        fact, a, b = odd[0]
        was, now_is = known.column.get("name"), now.column.get("name")
        raise ValueError(
            f"the head {modality!r} is fitted on the {known.modality} tower of {known.model} ({was}) with {fact} {a}; "
            f"the column {now_is} is of {fact} {b}, another tower's: {remedy}"
        )

"""Zero-shot's entries of the protocol, and notes about numbers that it does not measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.evaluation.against_rest import RESAMPLED
from align.evaluation.classified import Classified
from align.evaluation.descriptions import state_descriptions
from align.evaluation.notes import zeroshot_facts
from align.evaluation.space import Space
from align.metrics.calibration import BINS
from align.values import Scores

MEANINGS = {
    "mean_per_class": "the mean over classes of each one's accuracy; classes without a sample are left out",
    "ece": f"{BINS} bins of equal width; confidence: the softmax over the classes at the trained scale",
    "map": "the mean over classes of each one's average precision against the rest",
    "auroc": "the mean over classes of each one's AUROC against the rest",
    "sensitivity": "the mean over classes of the highest sensitivity at that specificity, one against the rest",
}
SEVERAL = "the class's score"
SINGLE = "the class's score less the best other one"


def state_zeroshot(
    space: Space, found: Mapping[tuple[str, str], Classified], scores: Scores, text: str
) -> dict[str, Any]:
    """Return ``zeroshot_facts``, "zeroshot" (the meaning of its scores, the rule of each modality), "descriptions"."""
    facts = zeroshot_facts(space, scores, text)
    names = {key.partition("@")[0] for one in found.values() for key in one.scores}
    about: dict[str, Any] = {name: meaning for name, meaning in MEANINGS.items() if name in names}
    about["rule"] = {m: one.answers.how for (_, m), one in found.items()}
    rest = {a: one for (a, _), one in found.items() if one.rest is not None}
    if rest:
        about["against the rest"] = {a: SINGLE if one.single else SEVERAL for a, one in rest.items()}
        about["intervals of map, auroc, sensitivity"] = (
            f"up to {RESAMPLED:,} scores (rows x classes) the bootstrap, above it the bootstrap of the rows' influences"
        )
    if space.descriptions:
        facts = {"descriptions": state_descriptions(space.descriptions)} | facts
    facts["notes"] = [*facts["notes"], *_notes(found, text)]
    return ({"zeroshot": about} if found else {}) | facts


def _notes(found: Mapping[tuple[str, str], Classified], text: str) -> list[str]:
    out = []
    several = {a: one for (a, _), one in found.items() if not one.single}
    for a in several:
        out.append(
            f"{a}: samples have several of its classes, and any of them is right; there is no mean_per_class, no ece "
            "and no table of confusions"
        )
    unscaled = dict.fromkeys(m for (a, m), one in found.items() if one.answers.confidence is None and one.single)
    if unscaled:
        joins = " and ".join(unscaled)
        out.append(
            f"ece of {joins} is not measured: no trained term joins it with {text} alone, so there is no scale, and a "
            "cosine is no confidence"
        )
    return out

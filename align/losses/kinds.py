"""Kinds of losses: how many modalities a call takes, and how scoring reads the term."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Kind(NamedTuple):
    """Facts about a kind of loss that objectives and wrappers need."""

    least: int  # modalities in one call
    most: int | None  # None: any number
    read: str | None  # the kind in its TermInfo. None: scoring does not read it
    ordered: bool = False  # ``between`` names students before teachers
    contrasts: bool = True  # a row of id -1 is a negative
    pairs: bool = False  # scoring reads each pair of the call


KINDS = {
    "pairwise": Kind(2, 2, "pairwise"),
    "tokens": Kind(2, 2, "tokens"),
    "symile": Kind(2, None, "symile"),
    "volume": Kind(2, None, "volume"),
    "area": Kind(3, 3, "area"),
    # a, b, teacher_a, teacher_b: scoring reads a with b
    "distill": Kind(4, 4, "pairwise", ordered=True, contrasts=False),
    "regress": Kind(2, 2, "pairwise", ordered=True, contrasts=False),  # a, teacher
    "none": Kind(2, 2, None, contrasts=False),  # a regulariser
    "span": Kind(2, None, "span"),
    "fused": Kind(3, None, "pairwise", pairs=True),  # fused rows against a further modality, beside the pairs
    "gated": Kind(2, None, "symile"),  # the gate is not in a model folder, so the plain product is read
    "regulariser": Kind(2, None, None, contrasts=False),  # of any number of modalities
    "intra": Kind(1, 1, None),  # rows of one modality with each other
    "across": Kind(1, 1, None, contrasts=False),  # two spaces of each row
    "classes": Kind(1, 1, None, contrasts=False),  # rows against the classes of their labels
    "rows": Kind(1, 1, None, contrasts=False),  # each row by itself
}


def list_read(kind: Kind, modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sets of a call's modalities that scoring reads as a term each."""
    if kind.read is None:
        return []
    if kind.pairs:
        return [*itertools.combinations(modalities, 2)]
    return [tuple(modalities[:2] if kind.read == "pairwise" else modalities)]  # the students of four


WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}

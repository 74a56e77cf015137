"""Kinds of losses: how many modalities a call takes, and how scoring reads the term."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """Facts about a kind of loss that objectives and wrappers need."""

    least: int  # modalities in one call
    most: int | None  # None: any number
    read: str | None  # the kind in its TermInfo. None: scoring does not read it
    ordered: bool = False  # ``between`` names students before teachers
    contrasts: bool = True  # a row of id -1 is a negative


KINDS = {
    "intra": Kind(1, 1, None),  # rows of one modality with each other
    "pairwise": Kind(2, 2, "pairwise"),
    "tokens": Kind(2, 2, "tokens"),
    "symile": Kind(2, None, "symile"),
    "volume": Kind(2, None, "volume"),
    "area": Kind(3, 3, "area"),
    # a, b, teacher_a, teacher_b: scoring reads a with b
    "distill": Kind(4, 4, "pairwise", ordered=True, contrasts=False),
    "regress": Kind(2, 2, "pairwise", ordered=True, contrasts=False),  # a, teacher
    "none": Kind(2, 2, None, contrasts=False),  # a regulariser
}

WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}

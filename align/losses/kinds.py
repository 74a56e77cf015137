"""The kinds of losses: with how many modalities each is called, and how scoring reads it."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """Facts about a kind of loss that objectives and wrappers need."""

    least: int  # modalities in one call
    most: int | None  # None: any number
    read: str | None  # the kind that its TermInfo has; None: scoring knows nothing of it
    ordered: bool = False  # students before teachers: ``between`` says which is which
    contrasts: bool = True  # a row of id -1 is a negative


KINDS = {
    "pairwise": Kind(2, 2, "pairwise"),
    "tokens": Kind(2, 2, "tokens"),
    "symile": Kind(2, None, "symile"),
    "volume": Kind(2, None, "volume"),
    "area": Kind(3, 3, "area"),
    # a, b, teacher_a, teacher_b: a with b is what scoring reads
    "distill": Kind(4, 4, "pairwise", ordered=True, contrasts=False),
    "regress": Kind(2, 2, "pairwise", ordered=True, contrasts=False),  # a, teacher
    "none": Kind(2, 2, None, contrasts=False),  # a regulariser
}

WORDS = {2: "two", 3: "three", 4: "four"}

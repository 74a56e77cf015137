"""A term: a loss between named modalities, and the contrasts that it asks for."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

from torch import nn

from align.losses.kinds import KINDS, WORDS, Kind

Between = Literal["all"] | list[str] | list[list[str | float]] | dict[str, float]


@final
@dataclass(eq=False)
class Term:
    """A loss between named modalities.

    Args:
        loss: a loss module of ``align.losses``, or anyone's: a ``Loss``, or any module with a ``kind`` and its
            ``forward``.
        between: the modalities. ``all``: every pair of the model's modalities, or all of them at once for a loss over
            more than two (Symile, GRAM), or every three (TRIANGLE). ``[image, text, audio]``: every pair of these, or
            these at once. ``[[image, text], [image, audio, 0.5]]``: these pairs (for Symile: these sets), with a weight
            at the end where it is not 1. ``{image-text: 1.0, image-audio: 0.5}``: the same by name. ``Views`` takes
            each modality by itself. Distillation wants its students first and then its teachers, so it takes no
            ``all``.
        weight: factor of the term's value in the sum.
        partial: weight of an anchor whose pair is graded ``partial`` in the shards (see ``align.objective.grades``).
    """

    loss: nn.Module
    between: Between
    weight: float = 1.0
    partial: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.partial < math.inf:
            raise ValueError(f"partial is a weight of at least 0; got {self.partial}")


class Contrast(NamedTuple):
    """One call of a term's loss."""

    modalities: tuple[str, ...]
    weight: float

    @property
    def name(self) -> str:
        return "-".join(self.modalities)


def contrasts(name: str, term: Term, modalities: Sequence[str] | None) -> list[Contrast]:
    """Return the calls that a term asks for. modalities: those of the model, None where they are not known.

    Raises ValueError, with the term's name, for a ``between`` that fits no call of its loss, and with the nearest right
    name for an unknown modality.
    """
    kind = KINDS[str(term.loss.kind)]
    between: Iterable[list[str | float]]
    if term.between == "all" or (isinstance(term.between, list) and all(isinstance(x, str) for x in term.between)):
        if term.between == "all" and modalities is None:
            raise ValueError(f"term {name!r} is between all modalities: Objective needs modalities=[...] to know them")
        if term.between == "all" and kind.ordered:
            raise ValueError(f"term {name!r} has students and teachers: name its modalities in order, not 'all'")
        names = [str(m) for m in (sorted(modalities or ()) if term.between == "all" else term.between)]
        size = len(names) if kind.most is None or kind.ordered else kind.most
        between = [[*part] for part in itertools.combinations(names, size)]
        if len(names) < kind.least:
            raise ValueError(f"term {name!r} needs at least {WORDS[kind.least]} modalities; it has {names}")
    elif isinstance(term.between, dict):
        between = [[*key.split("-"), weight] for key, weight in term.between.items()]
    else:
        between = [[*part] if isinstance(part, list | tuple) else [part] for part in term.between]
    found = [_contrast(name, part, kind, modalities) for part in between]
    repeated = [c.name for i, c in enumerate(found) if {*c.modalities} in [{*d.modalities} for d in found[:i]]]
    if repeated or not found:
        raise ValueError(f"term {name!r} " + (f"names {repeated[0]} twice" if repeated else "is between nothing"))
    if len({len(c.modalities) for c in found}) > 1:
        raise ValueError(f"term {name!r} has one temperature, so its sets have one size; they are {between}")
    return found


def _contrast(name: str, part: list[str | float], kind: Kind, known: Sequence[str] | None) -> Contrast:
    weight = 1.0
    if part and isinstance(part[-1], int | float):
        weight, part = float(part[-1]), part[:-1]
    names = tuple(str(m) for m in part)
    for modality in names:
        check_known(name, modality, known)
    if len({*names}) != len(names) or not kind.least <= len(names) <= (kind.most or len(names)):
        wanted = WORDS[kind.least] + (" or more" if kind.most is None else "")
        which = "the rows of one modality" if kind.most == 1 else f"{wanted} different modalities"
        raise ValueError(f"term {name!r} contrasts {which} at a time; got {list(names)}")
    return Contrast(names, weight)


def check_known(name: str, modality: str, known: Iterable[str] | None) -> None:
    """Raise ValueError, with the nearest right name, where a term's modality is none of the known."""
    if known is None or modality in known:
        return
    nearest = difflib.get_close_matches(modality, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"term {name!r} names the modality {modality!r}; there are {', '.join(sorted(known))}{hint}")

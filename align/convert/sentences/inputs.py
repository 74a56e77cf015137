"""The towers of a model as Sentence Transformers names its inputs, and the sizes that it may cut embeddings to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.media import PICTURE, SOUND, VIDEO, WORDS
from align.model import JointModel

MEDIA = {"text": WORDS, "image": PICTURE, "audio": SOUND, "video": VIDEO}
"""Kind of input in Sentence Transformers -> the medium that it is in."""


def find_kinds(model: JointModel) -> dict[str, str]:
    """Return kind of input -> the modality that reads it: the one of that name, else the first of that medium.

    Towers that read the tokens of another, as those of regions do, are left out.
    """
    found: dict[str, str] = {}
    for kind, medium in MEDIA.items():
        fits = [m for m in model.modalities if m not in model.follows and model.preprocess[m].medium is medium]
        if fits:
            found[kind] = kind if kind in fits else fits[0]
    return found


def check_text(model: JointModel) -> str:
    """Return the modality that reads text. Raises ValueError where none does."""
    kinds = find_kinds(model)
    if "text" not in kinds:
        raise ValueError(
            f"a folder of Sentence Transformers needs a tower that reads text, and the towers here are "
            f"{', '.join(model.modalities)}; name one that does in --towers, or export --to onnx"
        )
    return kinds["text"]


def pick(given: Mapping[str, Any], modalities: Sequence[str], kinds: Mapping[str, str]) -> str:
    """Return the modality of an input ``{MODALITY: input}``. Raises ValueError for any other dict."""
    if len(given) != 1:
        raise ValueError(f"an input has one modality, not {', '.join(map(str, given))}: encode each by itself")
    name = next(iter(given))
    name = name if name in modalities else kinds.get(name, name)
    if name not in modalities:
        raise ValueError(f"no tower for {name!r}; the model has {', '.join(modalities)}")
    return name


def list_prefixes(model: JointModel) -> tuple[int, ...]:
    """Return the numbers of first coordinates that all trained terms of a model train as embeddings, growing."""
    if not model.terms:
        return ()
    shared = set.intersection(*(set(term.prefixes) for term in model.terms))
    return tuple(sorted(shared))

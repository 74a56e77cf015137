"""The medium of a member, a file or a model, among several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from align.media.medium import Medium


def medium_of(media: Sequence[Medium], suffix: str, modality: str = "") -> Medium | None:
    """Return the medium of members with a suffix, or None.

    Of several (.npy is a cloud or an array) the medium of that modality counts, else one without a modality, else the
    first.
    """
    found = [medium for medium in media if suffix in medium.suffixes]
    for wanted in (modality, ""):
        if fits := [medium for medium in found if medium.modality == wanted]:
            return fits[-1]
    return found[0] if found else None


def of_modality(media: Sequence[Medium], modality: str) -> Medium | None:
    """Return the medium of a modality's files, or None where these may be of any medium."""
    return next((medium for medium in reversed(media) if modality and medium.modality == modality), None)


def converter_of(media: Sequence[Medium], suffix: str, modality: str) -> Medium | None:
    """Return the medium that makes members of a modality's files with this suffix, or None."""
    medium = of_modality(media, modality)
    return medium if medium is not None and suffix in medium.files else None


def modality_of(media: Sequence[Medium], suffix: str) -> str | None:
    """Return the modality that a file's suffix says, or None."""
    named = (medium for medium in media if medium.modality)
    return next((m.modality for m in named if suffix in m.suffixes or suffix in m.files), None)


def advise(media: Sequence[Medium], path: Path) -> str:
    """Return how a file that no medium reads becomes one that is read, or ""."""
    return next((said for medium in media if (said := medium.advise(path))), "")


def with_named(media: Sequence[Medium], preprocesses: Mapping[str, Medium | None]) -> tuple[Medium, ...]:
    """Return ``media`` and those of a model's modalities that are not among them, each under its modality."""
    more = [medium.with_modality(m) for m, medium in preprocesses.items() if medium is not None and medium not in media]
    return (*media, *more)


def load_media(paths: Iterable[str], beside: Sequence[Medium] = ()) -> tuple[Medium, ...]:
    """Return the media at import paths such as ``my.track.Track``: classes or objects.

    Raises ValueError for a path that leads to something else or nowhere, for a class that cannot be built without
    arguments, for a suffix that no member can have, and for a name that another one or one of ``beside`` has.
    """
    found: list[Medium] = []
    for path in paths:
        module, _, name = path.rpartition(".")
        try:
            thing = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
            raise ValueError(f"no medium {path}: {error}") from None
        try:
            medium = thing() if isinstance(thing, type) and issubclass(thing, Medium) else thing
        except TypeError as error:
            raise ValueError(f"{path} cannot be built without arguments: {error}") from None
        if not isinstance(medium, Medium) or not isinstance(getattr(medium, "name", None), str):
            raise ValueError(f"{path} is no medium: a subclass of align.media.Medium with a name, or an object of one")
        if odd := [suffix for suffix in (*medium.suffixes, *medium.files) if not re.fullmatch("[a-z0-9_-]+", suffix)]:
            raise ValueError(f"{path} has the suffix {odd[0]!r}; a suffix has lower case letters, digits, _ and -")
        if medium.name in {one.name for one in (*beside, *found)}:
            raise ValueError(f"{path} is called {medium.name!r}, as another medium is; name it otherwise")
        found.append(medium)
    return tuple(found)

"""Patterns of parameters and parts, and the names that they are matched with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

PREFIXES = ("model.towers.", "model.")
"""Prefixes of a name that a pattern may leave out."""


def list_forms(name: str, share: Mapping[str, str]) -> list[str]:
    """Return the forms of a parameter's or a part's name: whole, shorter, and under each tower that borrows it.

    share: tower -> the tower whose encoder it has.

    >>> list_forms("model.towers.image.encoder.fc", {})
    ['model.towers.image.encoder.fc', 'image.encoder.fc', 'towers.image.encoder.fc']
    """
    names = [name]
    for borrower, lender in share.items():
        start = f"model.towers.{lender}.encoder"
        if name == start or name.startswith(start + "."):
            names.append(f"model.towers.{borrower}.encoder{name[len(start) :]}")
    return [*names, *(n[len(prefix) :] for n in names for prefix in PREFIXES if n.startswith(prefix))]


def names_it(pattern: str, forms: Iterable[str]) -> bool:
    """Return True where a pattern matches one of a name's forms."""
    return any(fnmatchcase(form, pattern) for form in forms)


def names_part(pattern: str, forms: Iterable[str]) -> bool:
    """Return True where a pattern, without ``.*`` at its end, matches a part that the name is in."""
    part = pattern.removesuffix(".*")
    return any(fnmatchcase(outer, part) for form in forms for outer in list_outer(form))


def list_outer(name: str) -> list[str]:
    """Return the parts that a name is in, the outermost first.

    >>> list_outer("image.encoder.fc")
    ['image', 'image.encoder']
    """
    steps = name.split(".")
    return [".".join(steps[:n]) for n in range(1, len(steps))]


def select(pattern: str, names: Iterable[str], share: Mapping[str, str]) -> list[str]:
    """Return the names that a pattern matches, or that are in a part that it matches."""
    formed = ((name, list_forms(name, share)) for name in names)
    return [name for name, forms in formed if names_it(pattern, forms) or names_part(pattern, forms)]


def nearest_part(pattern: str, names: Iterable[str], share: Mapping[str, str]) -> str:
    """Return ``did you mean PART?`` for a pattern that names nothing, or the outermost parts where none is near."""
    part = pattern.removesuffix(".*")
    if close := get_close_matches(part, list_parts(names, share), 1, 0.5):
        return f"did you mean {close[0]}{pattern[len(part) :]}?"
    parts = [x for x in list_parts(names, share) if x.count(".") == 1 and not x.startswith(("model.", "towers."))]
    return f"the parts are {', '.join(parts)}"


def list_parts(names: Iterable[str], share: Mapping[str, str]) -> list[str]:
    """Return the parts that the names are in, and the names, in every form."""
    forms = [form for name in names for form in list_forms(name, share)]
    return list(dict.fromkeys([outer for form in forms for outer in list_outer(form)] + forms))


def find_tower(key: str, name: str, towers: Mapping[str, object], share: Callable[[], Mapping[str, str]]) -> str:
    """Return the tower that a key of ``tuning`` names, the lender's where it borrows its encoder.

    Raises ValueError, with the nearest name, where the model has none.
    """
    if name in towers:
        return share().get(name, name)
    near = get_close_matches(name, list(towers), 1)
    hint = f"did you mean {near[0]}?" if near else f"the towers are {', '.join(towers)}"
    raise ValueError(f"tuning.{key}: no tower {name!r}; {hint}")
